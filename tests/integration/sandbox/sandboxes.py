"""Helpers of the tests of sandboxes: run a program, hear its callbacks, look for its processes."""

from __future__ import annotations

import os
import textwrap
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import docker

from app.settings import Settings
from workers.sandbox import Callbacks, Limits, Sandbox, SandboxResult, SandboxSpec
from workers.sandbox.docker import DockerSandbox

#: No other run of these tests on this engine has it.
STACK = f"clawq-test-{os.getpid()}-{time.time_ns()}"
HOST = "test-host"
_numbers = count(1)


#: On the containers of these tests.
LABELS = {"clawq.stack": STACK, "clawq.host": HOST, "clawq.worker": "w-1", "clawq.instance": "i-1"}


def in_docker(client: docker.DockerClient, image: str | None = None, **options: Any) -> DockerSandbox:
    """A docker sandbox of these tests; nothing waits in it unless `warm` is among the options."""
    image = image or Settings().sandbox_image
    images = {"python": image, "shell": image, "javascript": Settings().sandbox_javascript_image}
    return DockerSandbox(client, images=images, labels=LABELS, **options)


#: Forks until it may not, and says why and how often.
FORKS = """
    import os, time
    n = 0
    try:
        while n < 200:
            if os.fork() == 0: time.sleep(30); os._exit(0)
            n += 1
    except OSError as exc: print(exc.strerror)
    print(n)
"""


@dataclass
class Heard:
    """What the callbacks of one run were told."""

    started: list[str] = field(default_factory=list)
    output: list[tuple[str, str]] = field(default_factory=list)
    progress: list[tuple[int, str | None]] = field(default_factory=list)
    #: Set by the first output.
    spoke: threading.Event = field(default_factory=threading.Event)

    def callbacks(self) -> Callbacks:
        return Callbacks(
            started=self.started.append,
            output=self._on_output,
            progress=lambda percent, note: self.progress.append((percent, note)),
        )

    def _on_output(self, stream: str, text: str) -> None:
        self.output.append((stream, text))
        self.spoke.set()


Run = Callable[..., SandboxResult]


def unique(prefix: str) -> str:
    return f"{prefix}-{STACK}-{next(_numbers)}"


def system_v_objects() -> dict[tuple[str, int], int]:
    """The shared memory, semaphores and message queues of System V that exist here: kind and id, to the user id."""
    found = {}
    for kind, column in (("shm", "shmid"), ("sem", "semid"), ("msg", "msqid")):
        header, *lines = Path("/proc/sysvipc", kind).read_text().splitlines()
        for line in lines:
            row = dict(zip(header.split(), map(int, line.split()), strict=True))
            found[kind, row[column]] = row["uid"]
    return found


def run_in(sandbox: Sandbox, code: str | None = None, **options: Any) -> SandboxResult:
    """Run one program; `wall_s` and the other limits, `stop` and `heard` may be among the options."""
    stop = options.pop("stop", threading.Event())
    heard = options.pop("heard", Heard())
    limits = {name: options.pop(name) for name in vars(Limits()) if name in options}
    options.setdefault("name", unique("t"))
    options.setdefault("language", "python")
    spec = SandboxSpec(
        code=textwrap.dedent(code) if code is not None else None,
        limits=Limits(**{"wall_s": 20, "cpu_s": 20, **limits}),
        **options,
    )
    return sandbox.run(spec, stop=stop, callbacks=heard.callbacks())


def processes_with(token: str) -> list[str]:
    """The processes of this machine, in containers too, that have `token` on their command line."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                if token.encode() in file.read():
                    found.append(pid)
        except OSError:
            continue
    return found


def until(condition: Callable[[], object], seconds: float = 15) -> None:
    """Wait for a condition. Fails the test if it does not come true."""
    started = time.monotonic()
    while not condition():
        waited = time.monotonic() - started
        assert waited < seconds, "it did not happen in time"
        time.sleep(min(0.1, max(0.01, waited / 20)))
