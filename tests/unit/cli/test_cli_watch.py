"""`clawq logs -f` and `clawq watch` against an API that is a function."""

from __future__ import annotations

import json
from collections.abc import Callable
from io import StringIO
from typing import Any

import pytest
from rich.console import Console

from app.cli import render, stream, watch
from app.cli.client import ApiError, Away, Busy
from tests.unit.cli.scripted import Scripted
from tests.unit.cli.test_cli_board import STATES


def event(kind: str, **data: Any) -> dict[str, Any]:
    return {"type": "event", "task_id": "t1", "kind": kind, "data": data}


OUTPUT = [
    event("accepted"), event("running"), event("log", stream="stdout", text="4"),
    event("log", stream="stderr", text="hm\n"), event("progress", progress=50, note="half"),
    event("log", stream="stdout", text="2\n"), event("succeeded"),
]  # fmt: skip


def a_task(status: str, **values: Any) -> dict[str, Any]:
    empty = dict.fromkeys(("result", "error", "progress", "started_at"))
    return {"id": "t1", "status": status, "task_type": "python", "description": "", **empty, **values}


def a_workflow(status: str, **values: Any) -> dict[str, Any]:
    counts = dict.fromkeys(STATES, 0) | {"succeeded": 1, "running": 1}
    empty = dict.fromkeys(("error", "started_at"))
    return {"id": "w1", "status": status, "name": "x", "progress": 50, "counts": counts, **empty, **values}


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Scripted:
    """An API with one task that has ended."""
    made = Scripted(monkeypatch, capsys)
    made.events = OUTPUT
    made.answer = lambda *_: a_task("succeeded")
    return made


@pytest.mark.parametrize(("status", "code"), [("succeeded", 0), ("failed", 1), ("cancelled", 1)])
def test_logs_are_followed_to_the_end_which_is_the_exit_code(api: Scripted, status: str, code: int) -> None:
    api.answer = lambda *_: a_task(status)
    assert api.run("logs", "-f", "t1") == code
    assert tuple(api.shown()) == ("42\n", "hm\n")
    assert ("STREAM", "/events/stream", {"task_id": "t1"}) in api.asked
    assert api.run("logs", "-f", "t1", "--json") == code
    assert [json.loads(line) for line in api.shown().out.splitlines()] == [e for e in OUTPUT if e["kind"] == "log"]


def test_logs_so_far_are_no_stream(api: Scripted) -> None:
    api.answer = lambda _, path, __: {"items": OUTPUT, "next_cursor": None} if "events" in path else a_task("failed")
    assert api.run("logs", "t1") == 0
    assert api.shown().out == "42\n"
    assert not [path for verb, path, _ in api.asked if verb == "STREAM"]


@pytest.mark.parametrize(("status", "code"), [("succeeded", 0), ("failed", 1)])
def test_a_task_is_watched_to_its_end(api: Scripted, status: str, code: int) -> None:
    api.answer = lambda *_: a_task(status)
    assert api.run("watch", "t1") == code
    shown = api.shown()
    assert shown.out == "42\n"
    assert shown.err.splitlines() == ["hm", f"{status} "]
    assert api.run("watch", "t1", "--json") == code
    assert [json.loads(line) for line in api.shown().out.splitlines()] == OUTPUT


@pytest.mark.parametrize("argv", [("logs", "-f", "t1"), ("watch", "t1"), ("watch", "t1", "--json")])
def test_how_it_ended_is_asked_with_patience(
    api: Scripted, monkeypatch: pytest.MonkeyPatch, argv: tuple[str, ...]
) -> None:
    answers: list[Any] = [a_task("running"), Away("silence"), Busy("not now"), a_task("succeeded")]

    def answer(*_: Any) -> Any:
        found = answers.pop(0)
        if isinstance(found, ApiError):
            raise found
        return found

    api.answer = answer
    monkeypatch.setattr(stream, "_PAUSES_S", (0.0, 0.0))
    assert api.run(*argv) == 0
    assert answers == []


def absent(kind: str) -> Callable[..., Any]:
    """Answers where only things of this kind are missing."""

    def answer(_: str, path: str, __: Any) -> Any:
        if path.startswith(kind):
            missing = ApiError("No such thing.")
            missing.http_status = 404
            raise missing
        if path.endswith("/graph"):
            return {"nodes": [], "left_out": 0}
        return a_workflow("failed")

    return answer


def test_a_workflow_is_watched_to_its_end(api: Scripted) -> None:
    api.answer = absent("/tasks")
    assert api.run("watch", "w1") == 1
    assert api.shown().err.split() == ["workflow", "failed"]
    assert api.run("watch", "w1", "--json") == 1
    assert [json.loads(line) for line in api.shown().out.splitlines()] == OUTPUT
    assert ("STREAM", "/events/stream", {"workflow_id": "w1"}) in api.asked


def test_what_is_neither_is_said_to_be(api: Scripted) -> None:
    api.answer = absent("/")
    assert api.run("watch", "x1") == 1
    assert "There is no task and no workflow x1." in api.shown().err
    assert api.run("watch", "../keys") == 1
    assert "no id" in api.shown().err


def test_another_refusal_is_not_taken_for_a_missing_task(api: Scripted) -> None:
    def refuse(*_: Any) -> Any:
        raise ApiError("No key.")

    api.answer = refuse
    assert api.run("watch", "w1") == 1
    assert "No key." in api.shown().err


def page(*items: dict[str, Any], more: bool = False) -> dict[str, Any]:
    return {"items": list(items), "next_cursor": "more" if more else None}


def test_all_that_runs_is_two_tables() -> None:
    tasks = page(a_task("running", progress=40, description="a\x1b[2Jb", started_at="2030-01-01T00:00:00Z"), more=True)
    lines = watch.picture({"workflows": page(a_workflow("running")), "tasks": tasks}).plain.splitlines()
    assert [line.split() for line in lines] == [
        ["workflow", "done", "tasks", "since", "name"], ["w1", "50%", "1/2", "x"], [],
        ["task", "done", "type", "since", "description"],
        ["t1", "40%", "python", lines[4].split()[3], "a", "[2Jb"], [],
        ["…", "and", "more"],
    ]  # fmt: skip
    assert watch.picture({"workflows": page(), "tasks": page()}).plain == "Nothing runs."


def test_where_there_is_no_terminal_all_that_runs_is_shown_once(api: Scripted) -> None:
    api.answer = lambda _, path, __: page(a_task("running")) if path == "/tasks" else page()
    assert api.run("watch") == 0
    assert api.shown().out.splitlines()[1].split() == ["t1", "python"]


def stop_after(looks: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C after so many looks."""
    pauses = iter([None] * (looks - 1))

    def sleep(_: float) -> None:
        try:
            next(pauses)
        except StopIteration:
            raise KeyboardInterrupt from None

    monkeypatch.setattr(stream.time, "sleep", sleep)


def test_a_program_is_told_of_all_that_runs_when_it_changes(api: Scripted, monkeypatch: pytest.MonkeyPatch) -> None:
    states = iter([page(), page(), page(a_task("running")), page()])
    api.answer = lambda _, path, __: next(states) if path == "/tasks" else page()
    stop_after(4, monkeypatch)
    assert api.run("watch", "--json") == 130
    told = [json.loads(line)["tasks"]["items"] for line in api.shown().out.splitlines()]
    assert told == [[], [a_task("running")], []]


def test_a_terminal_shows_all_that_runs_until_ctrl_c(api: Scripted, monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Console(file=StringIO(), width=100, height=20, force_terminal=True, color_system=None)
    monkeypatch.setattr(render, "out", screen)
    states = iter([page(), page(a_task("running")), page()])
    api.answer = lambda _, path, __: next(states) if path == "/tasks" else page()
    stop_after(3, monkeypatch)
    assert api.run("watch") == 130
    shown = screen.file.getvalue()  # type: ignore[attr-defined]
    assert shown.index("Nothing runs.") < shown.index("t1") < shown.rindex("Nothing runs.")
    assert [given["limit"] for _, path, given in api.asked if path == "/tasks"] == [7, 7, 7]
