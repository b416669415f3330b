from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest

from app.local import doctor
from app.settings import settings


def states(monkeypatch: pytest.MonkeyPatch, *sandboxes: tuple[str, bool, str]) -> dict[str, str]:
    probe = SimpleNamespace(probe=lambda _: list(sandboxes))
    monkeypatch.setitem(sys.modules, "workers.sandbox.choose", probe)
    return {check.name: check.state for check in doctor.examine(settings())}


def test_one_usable_sandbox_is_enough(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("CLAWQ_API_PORT", "0")
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


def test_too_little_space_fails(environment: pytest.MonkeyPatch) -> None:
    environment.setattr(doctor.shutil, "disk_usage", lambda _: SimpleNamespace(free=1))
    assert states(environment)["disk"] == "fail"
