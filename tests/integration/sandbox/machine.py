"""What strangers' programs must leave as it was on the machine that runs them."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from tests.integration.sandbox.sandboxes import STACK, system_v_objects
from workers.sandbox.confined import BASE_UID
from workers.sandbox.profile import USER

#: Of the kernel's settings, those that a way out of a container goes through or would be seen in.
SETTINGS = ("kernel", "vm")
#: They count something, or the kernel changes them by itself.
_LIVELY = ("random/", "ns_last_pid", "pty/nr", "_stat", "sched_domain")
#: Directories that anybody may write in.
OPEN = ("/tmp", "/var/tmp", "/dev/shm")
#: Bytes.
TOLERANCE = 100 << 20
#: Bytes of the kernel's stack of a thread.
_THREAD = 16 << 10


class Machine:
    """Remembers the machine as it is when this is made."""

    def __init__(self, api: Any, temporary: Path) -> None:
        """`temporary`: where this process makes its temporary files. One file in it anybody may write to."""
        self._api = api
        self._temporary = temporary
        self.canary = temporary / "canary"
        self.canary.write_text("alive")
        self.canary.chmod(0o666)
        #: Ids of containers that the programs ran in.
        self.containers: list[str] = []
        #: What is to be called before the machine is as it was.
        self.closing: list[Callable[[], None]] = []
        self._before = self._state()
        self._memory = _kept_memory()

    def close(self) -> None:
        """End what uses it."""
        while self.closing:
            self.closing.pop()()

    def changes(self) -> list[str]:
        """What is not as it was, a line each."""
        after = self._state()
        found = [
            f"{name}: {self._before[name]!r} became {after[name]!r}"
            for name in after
            if after[name] != self._before[name]
        ]
        grown = _kept_memory() - self._memory
        return [*found, f"{grown >> 20} MiB of memory are kept"] if grown > TOLERANCE else found

    def _state(self) -> dict[str, Any]:
        """Only what programs could have touched: others use this machine too."""
        return {
            **_settings(),
            "hostname": socket.gethostname(),
            "clock": round((time.time() - time.monotonic()) / 60),
            "mounts": [line for line in Path("/proc/self/mounts").read_text().splitlines() if self._is_named_in(line)],
            "processes": [pid for pid in filter(str.isdigit, os.listdir("/proc")) if self._is_theirs(pid)],
            "sysvipc": [thing for thing, uid in system_v_objects().items() if uid == USER or uid >= BASE_UID],
            "open directories": [str(path) for path in _entries(OPEN) if _is_owned_by_them(path)],
            "temporary": sorted(path.name for path in self._temporary.iterdir()),
            "canary": self.canary.read_text(),
            "containers": self._api.containers(all=True, filters={"label": f"clawq.stack={STACK}"}),
            "networks": sorted(network["Id"] for network in self._api.networks() if not _is_others(network)),
            "volumes": sorted(v["Name"] for v in self._api.volumes()["Volumes"] or () if not _is_others(v)),
        }

    def _is_named_in(self, text: str) -> bool:
        return any(container in text for container in self.containers)

    def _is_theirs(self, pid: str) -> bool:
        """Whether it runs in one of the containers, or under the user id of a confined run."""
        with suppress(OSError):
            cgroups = Path(f"/proc/{pid}/cgroup").read_text()
            uid = os.stat(f"/proc/{pid}").st_uid
            return uid >= BASE_UID or self._is_named_in(cgroups)
        return False


def _settings() -> dict[str, str]:
    found = {}
    for place in SETTINGS:
        for path in Path("/proc/sys", place).rglob("*"):
            name = str(path.relative_to("/proc/sys"))
            if path.is_file() and not any(part in name for part in _LIVELY):
                with suppress(OSError, ValueError):
                    found[name] = path.read_text()
    return found


def _is_others(thing: dict[str, Any]) -> bool:
    """Whether it is labelled as another stack's."""
    return (thing["Labels"] or {}).get("clawq.stack", STACK) != STACK


def _entries(directories: Iterable[str]) -> Iterable[Path]:
    return (path for directory in directories if os.path.isdir(directory) for path in Path(directory).iterdir())


def _is_owned_by_them(path: Path) -> bool:
    with suppress(OSError):
        uid = path.lstat().st_uid
        return uid == USER or uid >= BASE_UID or "clawq-hostile" in path.name
    return False


def _kept_memory() -> int:
    """Bytes that stay although no process of theirs lives: of memory file systems, the kernel, this process.

    Not what the kernel merely caches, nor what is free, nor what belongs to a process that lives: others use this
    machine too.
    """
    own = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    kept = own + sum(_kib(Path("/proc/meminfo"), "Shmem", "KernelStack", "PageTables"))
    for process in filter(lambda path: path.name.isdigit(), Path("/proc").iterdir()):
        # Some end meanwhile; of some, only root may know more.
        with suppress(OSError):
            kept -= _THREAD * len(os.listdir(process / "task"))
            kept -= sum(_kib(process / "status", "VmPTE"))
            kept -= sum(_kib(process / "smaps_rollup", "Pss_Shmem"))
    return kept


def _kib(path: Path, *names: str) -> list[int]:
    """The sizes with these names in a file of the kernel's, in bytes."""
    words = dict(line.split(":", 1) for line in path.read_text().splitlines() if ":" in line)
    return [int(words[name].split()[0]) << 10 for name in names if name in words]
