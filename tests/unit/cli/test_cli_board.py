"""The board of a workflow: what it shows, what it says line by line, and what it counts."""

from __future__ import annotations

from io import StringIO
from typing import Any

import pytest
from rich.console import Console

from app.cli import board, render

STATES = ("pending", "queued", "running", "succeeded", "failed", "cancelled", "skipped")


def node(key: str, status: str = "pending", **values: Any) -> dict[str, Any]:
    empty = dict.fromkeys(("started_at", "completed_at", "duration_s", "error", "mapped_from"))
    return {"key": key, "status": status, "task_id": f"id-{key}", "progress": 0, "attempt": 0, **empty, **values}


def a_workflow(status: str = "running", **values: Any) -> dict[str, Any]:
    counts = dict.fromkeys(STATES, 0) | {"succeeded": 3, "running": 1}
    return {"name": "nightly", "status": status, "progress": 75, "counts": counts, "error": None, **values}


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> Console:
    """A terminal of 100 by 20."""
    console = Console(file=StringIO(), width=100, height=20, force_terminal=True, color_system=None)
    monkeypatch.setattr(render, "err", console)
    return console


def drawn(screen: Console, nodes: list[dict[str, Any]], left_out: int = 0, **values: Any) -> list[str]:
    screen.print(board.picture(a_workflow(**values), {"nodes": nodes, "left_out": left_out}))
    return screen.file.getvalue().splitlines()  # type: ignore[attr-defined, no-any-return]


def test_the_board_shows_a_header_and_a_row_for_each_task(screen: Console) -> None:
    head, *rows = drawn(
        screen,
        [
            node("fetch", "succeeded", attempt=2, duration_s=12.34),
            node("m", "running", progress=40, attempt=1, duration_s=75),
            node("m[0]", "failed", attempt=1, error="It\nbroke.", mapped_from="m"),
            node("last"),
        ],
    )
    assert [part for part in head.split() if part[0] not in "━╸╺"] == [
        "nightly", "running", "75%", "3/4", "1", "running,", "3", "succeeded",
    ]  # fmt: skip
    assert rows[0].split()[:5] == ["fetch", "succeeded", "try", "2", "12.3"]
    assert rows[1].split()[:4] == ["m", "running", "1:15", "min"]
    assert rows[2].startswith("  m[0]")
    assert rows[2].rstrip().endswith("It broke.")
    assert rows[3].split() == ["last", "pending"]
    assert len({row.index(word) for row, word in zip(rows, ("succ", "run", "fail", "pend"), strict=True)}) == 1


def test_a_long_key_or_error_leaves_the_board_within_the_screen(screen: Console) -> None:
    long = node("k" * 200, "failed", error="e" * 500, attempt=3, duration_s=4000)
    lines = drawn(screen, [node("fetch", "running"), long], name="n" * 255)
    assert len(lines) == 3
    assert max(map(len, lines)) <= 100
    assert lines[1].split()[:2] == ["fetch", "running"]
    assert lines[2].split()[1:] == ["failed", "try", "3", "1:06:40", "h", lines[2].split()[-1]]
    assert lines[2].rstrip().endswith("ee…")


def test_what_went_wrong_takes_one_line_and_no_room_from_short_columns(screen: Console) -> None:
    _, row = drawn(screen, [node("a", "failed", error="word " * 100, duration_s=3)])
    assert row.split()[:4] == ["a", "failed", "3.0", "s"]


def test_the_board_is_no_higher_than_the_screen(screen: Console) -> None:
    lines = drawn(screen, [node(f"n{n}") for n in range(17)], left_out=5)
    assert len(lines) == 1 + 16 + 1
    assert lines[-1] == "… and 6 more: 1 pending, 5 items"


def test_of_many_tasks_those_are_shown_that_something_happens_to() -> None:
    nodes = [node(f"n{n}", "succeeded", completed_at=f"2030-01-01T00:00:{n:02}") for n in range(40)]
    nodes += [node("r", "running"), node("f", "failed", completed_at="2029"), node("p"), node("s", "skipped")]
    shown, rest = board.choose(nodes, 5)
    assert [one["key"] for one in shown] == ["n37", "n38", "n39", "r", "f"]
    assert rest == {"succeeded": 37, "pending": 1, "skipped": 1}
    assert board.choose(nodes, 44) == (nodes, {})
    assert [one["key"] for one in board.choose([node("a"), node("b"), node("c", "running")], 2)[0]] == ["a", "c"]


def test_each_change_is_a_line_and_nothing_is_said_twice() -> None:
    said: dict[str, str] = {}

    def lines(workflow: dict[str, Any], *nodes: dict[str, Any]) -> list[str]:
        return [" ".join(line.plain.split()) for line in board.changes(workflow, nodes, said)]

    assert lines(a_workflow("pending"), node("a"), node("b")) == ["workflow pending"]
    assert lines(a_workflow(), node("a", "running", attempt=1), node("b")) == ["a running", "workflow running"]
    assert lines(a_workflow(), node("a", "running", attempt=1, progress=7), node("b")) == []
    again = node("a", "running", attempt=2)
    assert lines(a_workflow(), again, node("b", "skipped")) == ["a running", "b skipped"]
    failed = node("a", "failed", attempt=2, error="It\x1b[2Jbroke.")
    assert lines(a_workflow("failed", error="a failed."), failed, node("b", "skipped")) == [
        "a failed It [2Jbroke.", "workflow failed a failed.",
    ]  # fmt: skip


def test_changes_are_told_in_the_order_in_which_they_happened() -> None:
    nodes = [
        node("a", "running", started_at="2030-01-03"), node("b", "failed", completed_at="2030-01-02"),
        node("c", "queued"),
        node("d", "succeeded", started_at="2030-01-01", completed_at="2030-01-01"),
    ]  # fmt: skip
    assert [line.plain.split()[0] for line in board.changes(a_workflow(), nodes, {})] == [*"dbac", "workflow"]


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(None, ""), (0, "0.0 s"), (59.94, "59.9 s"), (60, "1:00 min"), (3599, "59:59 min"), (3661, "1:01:01 h")],
)
def test_lengths_of_time_are_said_as_people_do(seconds: float | None, said: str) -> None:
    assert board.span(seconds) == said
