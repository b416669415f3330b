"""Which sandbox this machine can offer. Code never runs unsandboxed: where there is none, there is `Nowhere`."""

from __future__ import annotations

import hashlib
import os
import socket
import time
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

import docker
from docker.errors import ImageNotFound

from app.settings import Settings
from app.tasks.code import ProgramPayload
from workers.sandbox import gvisor, process
from workers.sandbox.container import ENGINE_ERRORS
from workers.sandbox.conversation import failed
from workers.sandbox.docker import DockerSandbox, connect, missing_image
from workers.sandbox.process import ProcessSandbox
from workers.sandbox.profile import HOST, INSTANCE, STACK, WORKER, Profile
from workers.sandbox.spec import Callbacks, Sandbox, SandboxResult, SandboxSpec, Stop

#: Seconds an engine gets to answer.
ANSWER_S = 5
#: Seconds an image gets to arrive.
PULL_S = 120


class Probe(NamedTuple):
    """One kind of sandbox: whether this machine can offer it, and a sentence that says why."""

    name: str
    usable: bool
    sentence: str


class Nowhere:
    """The sandbox of a machine that has none: every run is an infra_error that says why."""

    name = "none"

    def __init__(self, sentence: str) -> None:
        self.sentence = sentence

    def run(self, spec: SandboxSpec, *, stop: Stop, callbacks: Callbacks) -> SandboxResult:
        """See `Sandbox.run`."""
        return failed(self.sentence, self.name)

    def open(self) -> None:
        """There is nothing to prepare."""

    def reap(self, is_orphan: Callable[[str, str], bool]) -> list[str]:
        """There is nothing to reap."""
        return []

    def waiting(self) -> int:
        """Nothing waits."""
        return 0

    def close(self) -> None:
        """There is nothing to remove."""


def choose(settings: Settings, *, worker: str, instance: str) -> Sandbox:
    """The sandbox for this process. Pulls the image if the engine has none, for at most PULL_S.

    Args:
        worker: the name of this worker process; goes on its containers, for people.
        instance: a word that no other process has; goes on its containers, for the reaper.
    """
    refusals = []
    for kind in _wanted(settings):
        found = _probe_docker(settings, pull=True) if kind == "docker" else _probe_process()
        if found.usable and kind == "docker":
            labels = {
                STACK: stack_name(settings),
                HOST: socket.gethostname(),
                WORKER: worker,
                INSTANCE: instance,
            }
            client = connect()
            runtime = gvisor.default(client.info())
            return DockerSandbox(
                client, images=_images(settings), labels=labels, warm=_warm(settings, runtime), runtime=runtime
            )
        if found.usable:
            return ProcessSandbox()
        refusals.append(f"{kind}: {found.sentence}")
    return Nowhere("No sandbox can run code here. " + " ".join(refusals))


def probe(settings: Settings) -> list[Probe]:
    """What this machine can offer, both kinds, whatever the settings prefer. Pulls nothing."""
    return [_probe_docker(settings, pull=False), _probe_process()]


def stack_name(settings: Settings) -> str:
    """The name of this stack on its containers: the same for every worker that shares its CLAWQ_HOME."""
    return hashlib.sha256(os.fsencode(settings.home.resolve())).hexdigest()[:12]


def _images(settings: Settings) -> dict[str, str]:
    """The image of each language."""
    python = settings.sandbox_image
    return {"python": python, "shell": python, "javascript": settings.sandbox_javascript_image}


def _warm(settings: Settings, default: str | None) -> dict[Profile, int]:
    """How many containers are to wait, for programs that ask for nothing but the defaults. `default`: a runtime."""
    images = _images(settings)
    runtimes = {str(task_type): runtime for task_type, runtime in settings.sandbox_runtimes.items()}
    bounds = ProgramPayload().bounds()
    kept = {name: bounds[name] for name in ("memory_mb", "pids", "disk_mb")}
    wanted: Counter[Profile] = Counter()
    for name, count in settings.sandbox_warm.items():
        task_type = name if name in images else "container"
        wanted[Profile(image=images.get(name, name), runtime=runtimes.get(task_type, default), **kept)] += count
    return wanted


def _wanted(settings: Settings) -> tuple[str, ...]:
    return ("docker", "process") if settings.sandbox == "auto" else (settings.sandbox,)


def _probe_docker(settings: Settings, *, pull: bool) -> Probe:
    if not settings.docker_enabled:
        return Probe("docker", False, "DOCKER_ENABLED is false.")
    try:
        client = connect(timeout_s=ANSWER_S)
    except ENGINE_ERRORS:
        where = os.environ.get("DOCKER_HOST", "the default socket")
        return Probe("docker", False, f"No container engine answers at {where}.")
    try:
        if not _has_image(client, settings.sandbox_image, pull=pull):
            return Probe("docker", False, missing_image(settings.sandbox_image))
        version = client.version()["Version"]
    except ENGINE_ERRORS as exc:
        return Probe("docker", False, f"The container engine failed: {exc}.")
    finally:
        client.close()
    return Probe("docker", True, f"Engine {version} answers and has {settings.sandbox_image}.")


def _has_image(client: docker.DockerClient, image: str, *, pull: bool) -> bool:
    try:
        client.images.get(image)
    except ImageNotFound:
        return pull and _pull(image)
    return True


def _pull(image: str) -> bool:
    """Whether the image arrived in time."""
    deadline = time.monotonic() + PULL_S
    try:
        client = connect(timeout_s=PULL_S)
        try:
            for _ in client.api.pull(image, stream=True):
                if time.monotonic() > deadline:
                    return False
            client.images.get(image)
        finally:
            client.close()
    except ENGINE_ERRORS:
        return False
    return True


def _probe_process() -> Probe:
    refusal = process.probe()
    if refusal is not None:
        return Probe("process", False, refusal)
    gaps = "; ".join(process.unenforced())
    return Probe("process", True, f"Landlock and sandlock confine processes. Not as in a container: {gaps}.")
