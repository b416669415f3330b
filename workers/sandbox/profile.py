"""What a container is fixed to at its creation, and with it which runs it can serve."""

from __future__ import annotations

import marshal
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import MAGIC_NUMBER
from pathlib import Path
from typing import Any
from uuid import uuid4

from docker.types import LogConfig, Ulimit

from workers.sandbox import gvisor
from workers.sandbox.baggage import NOTHING, Baggage
from workers.sandbox.source import bundle
from workers.sandbox.spec import Limits, SandboxSpec

#: Labels of every container of ours: the reaper goes by them.
STACK, HOST, WORKER, INSTANCE = "clawq.stack", "clawq.host", "clawq.worker", "clawq.instance"
#: Owns nothing, in no image's /etc/passwd.
USER = 65532
NANO_CPUS = 1_000_000_000
INODES = 16_384
#: Bounds of any program; its own, at most these, are set when it starts.
OPEN_FILES, FILE_MB = 4096, 1024

# An allow-list of our own, so that what a newer kernel adds stays closed. What is not on it answers EPERM (ENOSYS where
# libraries probe and fall back) and never kills: a program can say what failed, or do without.
SECCOMP = Path(__file__).with_name("seccomp.json").read_text()

# The supervisor comes over the stream, ahead of the job: as an argument it would be in every listing and on the
# engine's disk. It comes compiled too, for an image whose Python is ours: that saves 6 ms of a cold start.
_SOURCE = bundle()
_CODE = marshal.dumps(compile(_SOURCE, "<supervisor>", "exec"))
SUPERVISOR = _CODE + _SOURCE.encode()
_BOOT = f"""import os,marshal,_frozen_importlib_external as f
s=b''
while len(s)<{len(SUPERVISOR)}:s+=os.read(0,{len(SUPERVISOR)}-len(s)) or os._exit(0)
exec(marshal.loads(s[:{len(_CODE)}]) if f.MAGIC_NUMBER=={MAGIC_NUMBER!r} else s[{len(_CODE)}:])"""


@dataclass(frozen=True, kw_only=True)
class Profile:
    """The kind of a container. Runs with the same one can use the same containers."""

    image: str
    runtime: str | None = None
    network: str | None = None
    memory_mb: int = Limits.memory_mb
    pids: int = Limits.pids
    disk_mb: int = Limits.disk_mb

    @classmethod
    def of(cls, spec: SandboxSpec, images: Mapping[str, str], runtime: str | None = None) -> Profile:
        """The profile that a run needs; `images` by language and `runtime` for those that name none."""
        return cls(
            image=spec.image or images[spec.language],
            runtime=spec.runtime or runtime,
            network=spec.network,
            memory_mb=spec.limits.memory_mb,
            pids=spec.limits.pids,
            disk_mb=spec.limits.disk_mb,
        )


def options(api: Any, profile: Profile, labels: Mapping[str, str], baggage: Baggage = NOTHING) -> dict[str, Any]:
    """The arguments of create_container of `api`, the engine's docker.APIClient; `baggage`: of the image."""
    confinement = _confinement(profile)
    # In place of the image's volumes, which would be the host's disk.
    confinement["tmpfs"] |= {path: "ro,nosuid,nodev,noexec,size=4k" for path in baggage.volumes}
    made_with = {
        "image": profile.image,
        # For people; nothing goes by it.
        "name": f"clawq-{uuid4().hex[:16]}",
        "labels": dict(labels),
        "entrypoint": ["python3", "-c", _BOOT],
        "command": [],
        "user": f"{USER}:{USER}",
        "working_dir": "/",
        "hostname": "sandbox",
        # A name alone takes the image's variable away.
        "environment": ["LANG=C.UTF-8", *(name for name in baggage.variables if name != "LANG")],
        "healthcheck": {"test": ["NONE"]},
        # No network, and no hook that re-executes dockerd: half the start time of network_mode=none.
        "network_disabled": profile.network is None,
        # With stdin_open this implies StdinOnce: our end closing is EOF inside, and an orphan ends itself.
        "stdin_open": True,
    }
    if gvisor.is_gvisor(profile.runtime):
        gvisor.adapt(made_with, confinement)
    return {**made_with, "host_config": api.create_host_config(**confinement)}


def _confinement(profile: Profile) -> dict[str, Any]:
    memory = profile.memory_mb << 20
    disk = profile.disk_mb << 20
    own = f"uid={USER},gid={USER},nosuid,nodev,exec"
    return {
        "read_only": True,
        # Their pages count as memory too.
        "tmpfs": {
            "/workspace": f"rw,{own},mode=0700,size={disk},nr_inodes={INODES}",
            "/tmp": f"rw,{own},mode=1777,size={max(disk // 4, 1 << 20)},nr_inodes={INODES // 4}",  # noqa: S108
        },
        "shm_size": max(disk // 4, 1 << 20),
        "mem_limit": memory,
        "memswap_limit": memory,
        "pids_limit": profile.pids + 1,  # the supervisor
        "nano_cpus": NANO_CPUS,
        "ulimits": [
            Ulimit(name="nofile", soft=OPEN_FILES, hard=OPEN_FILES),
            Ulimit(name="fsize", soft=FILE_MB << 20, hard=FILE_MB << 20),
            Ulimit(name="core", soft=0, hard=0),
        ],
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges", f"seccomp={SECCOMP}"],
        "ipc_mode": "private",
        "log_config": LogConfig(type="none"),
        "init": False,
        "runtime": profile.runtime,
        **({"network_mode": profile.network} if profile.network else {}),
    }
