"""Removals, of containers that only pretend."""

from __future__ import annotations

import time
from typing import Any

import pytest
from docker.errors import APIError

from tests.support import eventually
from workers.sandbox import removals as removals_
from workers.sandbox.removals import Removals


class Pretended:
    id = "0123456789abcdef"

    def __init__(self, *faults: Exception) -> None:
        self.faults = list(faults)
        self.is_gone = False

    def remove(self) -> None:
        if self.faults:
            raise self.faults.pop()
        self.is_gone = True


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(removals_, "REST_S", 0.001)


def put(removals: Removals, count: int) -> list[Any]:
    made: list[Any] = [Pretended() for _ in range(count)]
    for container in made:
        removals.add(container)
    return made


def gone(containers: list[Any]) -> int:
    return sum(container.is_gone for container in containers)


def test_closing_removes_at_once_what_is_in_line() -> None:
    removals = Removals()
    containers = put(removals, 10)
    removals.close(time.monotonic() + 20)
    assert gone(containers) == 10


def test_one_that_cannot_be_removed_holds_up_no_other() -> None:
    removals = Removals()
    for fault in (APIError("no"), ZeroDivisionError(), APIError("no"), ZeroDivisionError()):
        removals.add(Pretended(fault))  # type: ignore[arg-type]
    containers = put(removals, 3)
    eventually(lambda: gone(containers) == 3)
    removals.close(time.monotonic() + 20)
