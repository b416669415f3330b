"""Admissions: one at a time, and under load not too often."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from app.tasks.admit import Admission
from workers import gateway as gateway_
from workers.gateway import Gate


class Bench:
    """Stands in for Redis, Postgres and the clock on the wall."""

    def __init__(self, *found: Admission) -> None:
        self.found = list(found)
        self.log: list[str] = []
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        if seconds:
            self.log.append(f"waits {seconds * 1000:.0f} ms")
            self.now += seconds

    def answer(self, _queue: str) -> None:
        self.log.append("answers")

    @contextmanager
    def statements(self) -> Iterator[None]:
        yield None

    def admit(self, _: None) -> Admission:
        done = self.found.pop(0)
        self.log.append(f"admits {done.admitted}")
        return done


def play(monkeypatch: pytest.MonkeyPatch, *found: Admission, times: int) -> list[str]:
    """Let admissions find this, one right after the other; returns what happened."""
    bench = Bench(*found)
    monkeypatch.setattr(gateway_, "time", bench)
    monkeypatch.setattr(gateway_, "publisher", bench)
    monkeypatch.setattr(gateway_, "statements", bench.statements)
    monkeypatch.setattr(gateway_, "admit", bench.admit)
    subject = Gate()
    for _ in range(times):
        subject.open()
    return bench.log


def one(admitted: int, *, more: bool = False) -> Admission:
    return Admission(admitted=admitted, more=more)


def test_the_bell_is_answered_before_anything_is_looked_at_and_then_all_is_admitted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    log = play(monkeypatch, one(500, more=True), one(500, more=True), one(0), times=1)
    assert log == ["answers", "admits 500", "admits 500", "admits 0"]


def test_tasks_that_come_one_by_one_never_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    log = play(monkeypatch, one(1), one(0), one(1), times=3)
    assert [entry for entry in log if entry != "answers"] == ["admits 1", "admits 0", "admits 1"]


def test_an_admission_that_found_several_gives_the_next_ones_time_to_gather(monkeypatch: pytest.MonkeyPatch) -> None:
    log = play(monkeypatch, one(4), one(300), one(1), one(1), times=4)
    # Before the bell is answered: those who ring meanwhile need no envelope.
    assert log[2:4] == ["waits 12 ms", "answers"]
    assert [entry for entry in log if entry != "answers"] == [
        *("admits 4", "waits 12 ms", "admits 300", "waits 50 ms", "admits 1", "admits 1")
    ]
