"""`clawq agents`, `sessions` and `groupchats`: what is asked of the API, and what is shown."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.unit.cli.conftest import Cli
from tests.unit.cli.scripted import Scripted

THINGS: dict[str, dict[str, Any]] = {
    "agents": {
        "id": "x1", "name": "scout", "role": "finder", "goal": "Find it.", "agent_type": "critic", "status": "active",
        "configuration": {"max_running": 2}, "backstory": None,
    },
    "sessions": {
        "id": "x1", "session_type": "chat", "status": "closed", "user_id": "grace", "metadata": None,
        "created_at": "2030-01-01T00:00:00Z",
    },
    "groupchats": {"id": "x1", "name": "team", "status": "active", "agents": ["a", "b"], "description": None},
}  # fmt: skip


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Scripted:
    """An API that answers what a test says."""
    return Scripted(monkeypatch, capsys)


@pytest.mark.parametrize(
    ("argv", "wanted", "row"),
    [
        (("agents", "--type", "critic", "--status", "active"), {"agent_type": "critic", "status": "active"},
         ["x1", "active", "critic", "scout", "finder"]),
        (("sessions", "--status", "closed", "--type", "chat", "--user", "grace"),
         {"status": "closed", "session_type": "chat", "user_id": "grace"}, ["x1", "closed", "chat", "grace"]),
        (("groupchats", "--status", "active", "--name", "team"), {"status": "active", "name": "team"},
         ["x1", "active", "2", "team"]),
    ],
)  # fmt: skip
def test_a_list_is_a_table(api: Scripted, argv: tuple[str, ...], wanted: dict[str, Any], row: list[str]) -> None:
    noun, *options = argv
    api.answer = lambda *_: {"items": [THINGS[noun]], "next_cursor": "x"}
    assert api.run(noun, "list", *options, "--limit", "5") == 0
    assert api.asked == [("GET", f"/{noun}", wanted | {"limit": 5})]
    shown = api.shown()
    words = shown.out.splitlines()[1].split()
    assert [word for word in words if word in row] == row
    assert "There are more" in shown.err


@pytest.mark.parametrize("noun", THINGS)
def test_a_thing_is_shown_and_removed(api: Scripted, noun: str) -> None:
    api.answer = lambda *_: THINGS[noun]
    assert api.run(noun, "show", "x1") == 0
    shown = dict(line.split(maxsplit=1) for line in api.shown().out.splitlines())
    assert shown["status"] == THINGS[noun]["status"]
    assert set(shown) == {name for name, value in THINGS[noun].items() if value is not None}
    assert api.run(noun, "show", "x1", "--json") == 0
    assert json.loads(api.shown().out) == THINGS[noun]
    assert api.run(noun, "delete", "x1") == 0
    assert api.asked[-1] == ("DELETE", f"/{noun}/x1", None)
    assert "is removed" in api.shown().out


@pytest.mark.parametrize(
    ("argv", "body"),
    [
        (("agents", "create", "scout", "--role", "finder", "--goal", "Find it.", "--type", "critic"),
         {"name": "scout", "role": "finder", "goal": "Find it.", "agent_type": "critic"}),
        (("agents", "create", "s", "--role", "r", "--goal", "g", "--type", "t", "--backstory", "b",
          "--configuration", '{"max_running": 2}'),
         {"name": "s", "role": "r", "goal": "g", "agent_type": "t", "backstory": "b",
          "configuration": {"max_running": 2}}),
        (("sessions", "create", "chat"), {"session_type": "chat"}),
        (("sessions", "create", "chat", "--user", "grace", "--metadata", '{"n": 1}'),
         {"session_type": "chat", "user_id": "grace", "metadata": {"n": 1}}),
        (("groupchats", "create", "team", "a", "b"), {"name": "team", "agents": ["a", "b"]}),
        (("groupchats", "create", "team", "a", "--description", "d"),
         {"name": "team", "agents": ["a"], "description": "d"}),
    ],
)  # fmt: skip
def test_what_is_made_is_asked_for_as_it_was_said(api: Scripted, argv: tuple[str, ...], body: dict[str, Any]) -> None:
    api.answer = lambda *_: THINGS[argv[0]]
    assert api.run(*argv) == 0
    assert api.asked == [("POST", f"/{argv[0]}", body)]
    assert tuple(api.shown()) == ("x1\n", "")


@pytest.mark.parametrize(
    ("argv", "body"),
    [
        (("agents", "update", "x1", "--name", "n", "--role", "r", "--goal", "g", "--backstory", "b", "--status",
          "inactive", "--configuration", "{}"),
         {"name": "n", "role": "r", "goal": "g", "backstory": "b", "status": "inactive", "configuration": {}}),
        (("agents", "update", "x1"), {}),
        (("groupchats", "update", "x1", "--agent", "a", "--agent", "c", "--status", "closed"),
         {"agents": ["a", "c"], "status": "closed"}),
        (("groupchats", "update", "x1", "--name", "n", "--description", "d"), {"name": "n", "description": "d"}),
    ],
)  # fmt: skip
def test_a_change_is_what_is_said_and_nothing_else(api: Scripted, argv: tuple[str, ...], body: dict[str, Any]) -> None:
    api.answer = lambda *_: THINGS[argv[0]]
    assert api.run(*argv) == 0
    assert api.asked == [("PATCH", f"/{argv[0]}/x1", body)]
    assert "x1 is changed." in api.shown().out


def test_a_session_is_closed(api: Scripted) -> None:
    api.answer = lambda *_: THINGS["sessions"]
    assert api.run("sessions", "close", "x1") == 0
    assert api.asked == [("POST", "/sessions/x1/close", None)]
    assert api.shown().out == "Session x1 is closed.\n"


@pytest.mark.parametrize(
    "argv", [("agents", "update", "x1", "--configuration"), ("sessions", "create", "c", "--metadata")]
)
def test_an_object_that_is_none_is_refused(cli: Cli, argv: tuple[str, ...]) -> None:
    assert "is no object" in cli.refuses(*argv, "[]")
