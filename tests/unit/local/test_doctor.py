from __future__ import annotations

import socket
import sys
from types import SimpleNamespace

import pytest

from app.local import doctor, ports
from app.local.listeners import LISTENERS, Listener
from app.settings import settings


def states(monkeypatch: pytest.MonkeyPatch, *sandboxes: tuple[str, bool, str]) -> dict[str, str]:
    probe = SimpleNamespace(probe=lambda _: list(sandboxes))
    monkeypatch.setitem(sys.modules, "workers.sandbox.choose", probe)
    return {check.name: check.state for check in doctor.examine(settings())}


def test_one_usable_sandbox_is_enough(environment: pytest.MonkeyPatch) -> None:
    for listener in LISTENERS:
        environment.setenv(listener.variable, "0")
    found = states(environment, ("docker", False, "no engine"), ("process", True, "Landlock"))
    assert (found["docker"], found["process"]) == ("warn", "ok")
    assert "fail" not in found.values()


def test_no_usable_sandbox_fails(environment: pytest.MonkeyPatch) -> None:
    found = states(environment, ("docker", False, "no engine"), ("process", False, "no Landlock"))
    assert found["sandbox"] == "fail"


def test_a_service_that_does_not_answer_fails_in_one_line(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("DATABASE_URL", "postgresql://me:secret@127.0.0.1:1/tasks")
    environment.setenv("REDIS_URL", "redis://:secret@127.0.0.1:1/0")
    checks = {check.name: check for check in doctor.examine(settings())}
    for name in ("postgres", "redis", "schema"):
        assert checks[name].state == "fail"
        assert "\n" not in checks[name].detail
        assert "secret" not in checks[name].detail


def test_a_chroma_that_does_not_answer_is_a_warning(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("VECTOR_DB_URL", "http://127.0.0.1:1")
    (check,) = (check for check in doctor.examine(settings()) if check.name == "chroma")
    assert check.state == "warn"
    assert "no answer (ConnectError)" in check.detail


@pytest.mark.parametrize("listener", LISTENERS)
def test_a_taken_port_is_named(environment: pytest.MonkeyPatch, listener: Listener) -> None:
    with socket.create_server((ports.LOOPBACK, 0)) as server:
        port = server.getsockname()[1]
        for other in LISTENERS:
            environment.setenv(other.variable, str(port) if other == listener else "0")
        checks = [check for check in doctor.examine(settings()) if check.name == "port"]
    assert [check.state for check in checks] == ["fail" if one == listener else "ok" for one in LISTENERS]
    assert any(f"{port} is taken: set {listener.variable}" in check.detail for check in checks)


def test_too_little_space_fails(environment: pytest.MonkeyPatch) -> None:
    environment.setattr(doctor.shutil, "disk_usage", lambda _: SimpleNamespace(free=1))
    assert states(environment)["disk"] == "fail"
