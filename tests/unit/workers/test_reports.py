"""Reports: how much of a program's output and progress becomes events, and how often."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError

from tests.support import a_claim
from workers import reports as reports_
from workers.reports import Reports


class Written:
    """The events that reports have written, and the clock they read."""

    def __init__(self) -> None:
        self.flushes: list[list[tuple[str, dict[str, Any]]]] = []
        self.now = 1000.0
        self.broken = False

    def text(self, stream: str) -> str:
        return "".join(data["text"] for kind, data in self.events() if kind == "log" and data["stream"] == stream)

    def events(self) -> list[tuple[str, dict[str, Any]]]:
        return [event for flush in self.flushes for event in flush]


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> Written:
    """Takes what is reported in place of Postgres."""
    taken = Written()

    @contextmanager
    def no_transaction() -> Iterator[None]:
        if taken.broken:
            raise OperationalError("UPDATE", {}, Exception("gone"))
        yield None

    monkeypatch.setattr(reports_, "single", no_transaction)
    monkeypatch.setattr(reports_, "report", lambda db, task, attempt, events: taken.flushes.append(list(events)))
    monkeypatch.setattr(reports_.time, "monotonic", lambda: taken.now)
    return taken


def test_everything_said_within_a_fifth_of_a_second_is_one_write(written: Written) -> None:
    reports = Reports(a_claim(), most_chars=1000)
    written.now += 0.2
    reports.output("stdout", "first ")
    for n in range(50):
        reports.output("stdout", f"{n} ")
        reports.output("stderr", "e")
        reports.progress(n, None)
    assert len(written.flushes) == 1
    written.now += 0.2
    reports.flush_if_due()
    assert len(written.flushes) == 2
    assert [kind for kind, _ in written.flushes[1]] == ["log", "log", "progress"]
    assert written.text("stdout").startswith("first 0 1 2")


def test_no_more_than_five_writes_a_second(written: Written) -> None:
    reports = Reports(a_claim(), most_chars=100_000)
    for _ in range(1000):
        written.now += 0.01
        reports.output("stdout", "x")
    assert len(written.flushes) <= 51
    reports.flush()
    assert written.text("stdout") == "x" * 1000


def test_the_last_progress_stands(written: Written) -> None:
    reports = Reports(a_claim(), most_chars=10)
    written.now += 0.2
    reports.progress(1, "one")
    reports.progress(2, "two")
    reports.progress(3, None)
    reports.flush()
    assert [data for _, data in written.events()] == [{"progress": 1, "note": "one"}, {"progress": 3}]


@pytest.mark.parametrize("chunks", [["x" * 25], ["x" * 5, "x" * 20], ["x" * 10, "x" * 15], ["x"] * 25])
def test_output_past_the_bound_is_cut_and_says_so_once(written: Written, chunks: list[str]) -> None:
    reports = Reports(a_claim(), most_chars=10)
    for chunk in chunks:
        reports.output("stdout", chunk)
    reports.flush()
    assert written.text("stdout") == "x" * 10 + "\n[further output is not shown live]\n"


def test_output_up_to_the_bound_is_not_cut(written: Written) -> None:
    reports = Reports(a_claim(), most_chars=10)
    reports.output("stdout", "x" * 10)
    reports.output("stderr", "y" * 10)
    reports.flush()
    assert (written.text("stdout"), written.text("stderr")) == ("x" * 10, "y" * 10)


def test_nothing_to_say_writes_nothing(written: Written) -> None:
    reports = Reports(a_claim(), most_chars=10)
    reports.flush()
    reports.flush_if_due()
    assert written.flushes == []


def test_a_report_that_cannot_be_written_does_not_end_the_program(written: Written) -> None:
    reports = Reports(a_claim(), most_chars=100)
    written.now += 0.2
    written.broken = True
    reports.output("stdout", "lost")
    written.broken = False
    written.now += 0.2
    reports.output("stdout", "kept")
    assert written.text("stdout").endswith("kept")
