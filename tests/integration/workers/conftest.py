"""A worker in this process, around a sandbox that does what it is told."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from app.settings import settings
from tests.support import post_one, status
from workers import node as node_
from workers.gateway import admit_pending
from workers.node import Node
from workers.sandbox.spec import Callbacks, SandboxResult, SandboxSpec, Stop, Verdict

OK = SandboxResult(verdict=Verdict.OK, exit_code=0, stdout="1\n", sandbox="fake")


CODE: dict[str, Any] = {"task_type": "python", "payload": {"code": "print(1)"}}


def queued(**values: Any) -> str:
    """A program that waits for a worker; returns its id."""
    task_id = post_one(**(CODE | values))
    admit_pending()
    assert status(task_id) == "queued"
    return task_id


class FakeSandbox:
    """Runs nothing: `behave` says how each run goes."""

    name = "fake"

    def __init__(self) -> None:
        self.behave: Callable[[SandboxSpec, Stop, Callbacks], SandboxResult] = lambda *_: OK
        self.specs: list[SandboxSpec] = []
        self.is_open = False
        self.left: list[tuple[str, str]] = []
        self.reaped: list[str] = []

    def run(self, spec: SandboxSpec, *, stop: Stop, callbacks: Callbacks) -> SandboxResult:
        self.specs.append(spec)
        callbacks.started(f"box-{spec.name}")
        return self.behave(spec, stop, callbacks)

    def open(self) -> None:
        self.is_open = True

    def close(self) -> None:
        self.is_open = False

    def waiting(self) -> int:
        return 3

    def reap(self, is_orphan: Callable[[str, str], bool]) -> list[str]:
        """Removes what is nobody's of `left`: (instance, container id)."""
        removed = [container_id for instance, container_id in self.left if is_orphan(instance, container_id)]
        self.reaped += removed
        return removed

    def until_stopped(self, _: SandboxSpec, stop: Stop, callbacks: Callbacks) -> SandboxResult:
        """A program that runs until somebody stops it."""
        deadline = time.monotonic() + 30
        while not stop.is_set():
            assert time.monotonic() < deadline, "nobody stopped the program"
            callbacks.tick()
            threading.Event().wait(0.01)
        return SandboxResult(verdict=Verdict.CANCELLED, sandbox="fake")


class NoServer:
    """Probes are not asked for here, and a real server takes half a second to close."""

    port = 0

    def __init__(self, **_: Any) -> None: ...

    def close(self) -> None: ...


@pytest.fixture
def sandbox() -> FakeSandbox:
    """Says that all is well until a test says otherwise."""
    return FakeSandbox()


@pytest.fixture
def worker(clawq: pytest.MonkeyPatch, sandbox: FakeSandbox) -> Iterator[Node]:
    """An execution worker whose heart beats, with leases of 3 s."""
    clawq.setattr(node_, "HealthServer", NoServer)
    clawq.setenv("CLAWQ_LEASE_S", "3")
    clawq.setenv("CLAWQ_DRAIN_S", "0")
    settings.cache_clear()
    this = node_.become("execution@test", ["execution"], lambda: 2)
    this.__dict__["sandbox"] = sandbox
    this.start()
    yield this
    this.leave()
    this.close()
    node_._current.clear()
