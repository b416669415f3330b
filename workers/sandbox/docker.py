"""The docker sandbox: one hardened container per run, used once and removed.

Nothing of ours is in it but the supervisor, whose source is the container's command: any image with python3 will do.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import docker
import requests
from docker.errors import APIError, DockerException, ImageNotFound, NotFound
from docker.types import LogConfig, Ulimit

from workers.sandbox.conversation import Conversation, Heard, Link, LinkError, failed, rejected
from workers.sandbox.frames import FrameError
from workers.sandbox.job import problem
from workers.sandbox.reaper import ATTEMPT, HOST, STACK, WORKER, reap
from workers.sandbox.source import bundle
from workers.sandbox.spec import Callbacks, Limits, SandboxResult, SandboxSpec, Stop
from workers.sandbox.verdict import judge

#: What the engine or the way to it may raise.
ENGINE_ERRORS = (DockerException, requests.RequestException)
#: Owns nothing, in no image's /etc/passwd.
USER = 65532
NANO_CPUS = 1_000_000_000
#: The most that a program may be given of its own limit; the supervisor has all of them.
OPEN_FILES = 4096
INODES = 16_384

# An allow-list of our own, so that what a newer kernel adds stays closed. What is not on it answers EPERM (ENOSYS where
# libraries probe and fall back) and never kills: a program can say what failed, or do without.
_SECCOMP = Path(__file__).with_name("seccomp.json").read_text()


def connect(*, timeout_s: int = 60) -> docker.DockerClient:
    """A client of the engine that DOCKER_HOST names. Raises one of ENGINE_ERRORS if none answers."""
    client = docker.from_env(timeout=timeout_s, max_pool_size=64)
    try:
        client.ping()
    except BaseException:
        client.close()
        raise
    return client


class DockerSandbox:
    """Runs each program in a container of its own. Safe to use from many threads."""

    name = "docker"

    def __init__(
        self,
        client: docker.DockerClient,
        *,
        image: str,
        stack: str,
        host: str,
        worker: str,
        javascript_image: str = "clawq-javascript:1",
    ) -> None:
        self._api = client.api
        self._images = {"python": image, "shell": image, "javascript": javascript_image}
        self._labels = {STACK: stack, HOST: host, WORKER: worker}

    def run(self, spec: SandboxSpec, *, stop: Stop, callbacks: Callbacks) -> SandboxResult:
        """See `Sandbox.run`."""
        sentence = problem(spec)
        if sentence is not None:
            return rejected(sentence, self.name)
        try:
            with self._container(spec) as container_id:
                callbacks.started(container_id)
                return self._talk(container_id, Conversation(spec, stop, callbacks), spec)
        except ImageNotFound:
            return failed(missing_image(self._image(spec)), self.name)
        except ENGINE_ERRORS as exc:
            return failed(self._explain(exc, spec), self.name)
        except (LinkError, FrameError) as exc:
            return failed(f"The sandbox broke: {exc}", self.name)

    def reap(self, is_open: Callable[[str], bool]) -> list[str]:
        """See `Sandbox.reap`."""
        try:
            return reap(self._api, self._labels[STACK], self._labels[HOST], is_open)
        except ENGINE_ERRORS as exc:
            raise OSError(f"the container engine failed: {exc}") from exc

    @contextmanager
    def _container(self, spec: SandboxSpec) -> Iterator[str]:
        """A created container, gone with all its processes afterwards."""
        container_id: str = self._api.create_container(**self._options(spec))["Id"]
        try:
            yield container_id
        finally:
            self._remove(container_id)

    def _image(self, spec: SandboxSpec) -> str:
        return spec.image or self._images[spec.language]

    def _options(self, spec: SandboxSpec) -> dict[str, Any]:
        return {
            "image": self._image(spec),
            "name": f"clawq-{spec.name}",
            "labels": {**self._labels, ATTEMPT: spec.name},
            "entrypoint": ["python3", "-I", "-S", "-c", bundle()],
            "command": [],
            "user": f"{USER}:{USER}",
            "working_dir": "/",
            "hostname": "sandbox",
            "environment": {},
            "healthcheck": {"test": ["NONE"]},
            # No network, and no hook that re-executes dockerd: half the start time of network_mode=none.
            "network_disabled": spec.network is None,
            # With stdin_open this implies StdinOnce: our end closing is EOF inside, and an orphan ends itself.
            "stdin_open": True,
            "host_config": self._api.create_host_config(
                **_confinement(spec.limits), network_mode=spec.network, runtime=spec.runtime
            ),
        }

    def _talk(self, container_id: str, conversation: Conversation, spec: SandboxSpec) -> SandboxResult:
        stream = self._api.attach_socket(container_id, params={"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1})
        # Over a Unix socket this is a file around the socket, which its own close() would leave open.
        sock = getattr(stream, "_sock", stream)
        try:
            self._api.start(container_id)
            demultiplexer = Demultiplexer()
            heard = conversation.hold(Link(sock, demultiplexer.feed))
            return self._judge(container_id, heard, spec, demultiplexer)
        finally:
            stream.close()
            sock.close()

    def _judge(self, container_id: str, heard: Heard, spec: SandboxSpec, demultiplexer: Demultiplexer) -> SandboxResult:
        ending = heard.ending
        if ending.report or ending.cause:
            return heard.result(judge(ending, spec.limits), sandbox=self.name)
        # The supervisor fell silent. That is for the engine to explain (and raises if the engine is gone).
        self._api.wait(container_id, timeout=10)
        state = self._api.inspect_container(container_id)["State"]
        if not ending.started:
            complaint = demultiplexer.complaint or state.get("Error") or f"exit code {state['ExitCode']}"
            raise LinkError(f"the supervisor did not start in {self._image(spec)}: {complaint}.")
        # It ran and was killed: no fault of the engine, and nothing that should buy the program a retry.
        number = state["ExitCode"] - 128 if state["ExitCode"] > 128 else 9
        judgement = judge(ending.silenced(signal=number), spec.limits, oom=state["OOMKilled"])
        return heard.result(judgement, sandbox=self.name)

    def _remove(self, container_id: str) -> None:
        """Kill and remove. Raises if the engine cannot say that it is done."""
        for last in (False, True):
            try:
                return self._api.remove_container(container_id, force=True, v=True)
            except NotFound:
                return
            except ENGINE_ERRORS:
                if last:
                    raise

    def _explain(self, exc: Exception, spec: SandboxSpec) -> str:
        if isinstance(exc, APIError) and exc.status_code == 409:
            return f"A container clawq-{spec.name} exists already: this attempt runs, or ran, somewhere else."
        detail = exc.explanation if isinstance(exc, APIError) else exc
        return f"The container engine failed: {detail}."


class Demultiplexer:
    """Takes the engine's framing (stream, length) off an attached connection."""

    _HEADER = struct.Struct(">BxxxI")

    def __init__(self) -> None:
        self._buffer = b""
        self._stderr = b""

    @property
    def complaint(self) -> str:
        """The end of what the supervisor's interpreter wrote to its own stderr."""
        return self._stderr.decode(errors="replace").strip().rpartition("\n")[2]

    def feed(self, data: bytes) -> bytes:
        """The bytes of stdout that `data` completes."""
        self._buffer += data
        stdout = []
        start = 0
        while len(self._buffer) - start >= self._HEADER.size:
            stream, length = self._HEADER.unpack_from(self._buffer, start)
            end = start + self._HEADER.size + length
            if len(self._buffer) < end:
                break
            payload = self._buffer[end - length : end]
            if stream == 1:
                stdout.append(payload)
            else:
                self._stderr = (self._stderr + payload)[-2000:]
            start = end
        self._buffer = self._buffer[start:]
        return b"".join(stdout)


def missing_image(image: str) -> str:
    return f"The image {image} is not on this engine: `docker pull {image}`, or `ops/airgap/build {image}` offline."


def _confinement(limits: Limits) -> dict[str, Any]:
    memory = limits.memory_mb << 20
    disk = limits.disk_mb << 20
    own = f"uid={USER},gid={USER},nosuid,nodev,exec"
    return {
        "read_only": True,
        # Together no more than disk_mb; their pages also count as memory. /dev/shm has the size of the last quarter.
        "tmpfs": {
            "/workspace": f"rw,{own},mode=0700,size={disk // 2},nr_inodes={INODES}",
            "/tmp": f"rw,{own},mode=1777,size={disk // 4},nr_inodes={INODES // 4}",  # noqa: S108
        },
        "shm_size": max(disk // 4, 1 << 20),
        "mem_limit": memory,
        "memswap_limit": memory,
        "pids_limit": limits.pids + 1,  # the supervisor
        "nano_cpus": NANO_CPUS,
        "ulimits": [
            Ulimit(name="nofile", soft=OPEN_FILES, hard=OPEN_FILES),
            Ulimit(name="fsize", soft=limits.file_mb << 20, hard=limits.file_mb << 20),
            Ulimit(name="core", soft=0, hard=0),
        ],
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges", f"seccomp={_SECCOMP}"],
        "ipc_mode": "private",
        "log_config": LogConfig(type="none"),
        "init": False,
    }
