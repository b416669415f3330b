"""`clawq memory`: what is asked of the API, and what is shown."""

from __future__ import annotations

import json
import sys
from io import BytesIO, TextIOWrapper
from typing import Any

import pytest

from tests.unit.cli.conftest import Cli
from tests.unit.cli.scripted import Scripted

MEMORY = {
    "id": "m1", "owner": "ada", "memory_type": "semantic", "content": "Grace drinks\ntea.\x1b[2J", "metadata": None,
    "created_at": "2030-01-01T00:00:00Z", "version": 2, "indexed": True,
}  # fmt: skip
STORED = MEMORY | {"result": "created", "duplicate_of": None, "near_duplicates": None}


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Scripted:
    """An API that answers what a test says."""
    return Scripted(monkeypatch, capsys)


def found(*hits: dict[str, Any], degraded_by: tuple[str, ...] = ()) -> dict[str, Any]:
    return {"items": list(hits), "degraded": bool(degraded_by), "degraded_by": list(degraded_by)}


def test_a_text_is_remembered_with_all_that_is_said_of_it(api: Scripted) -> None:
    api.answer = lambda *_: STORED
    options = (
        "--type", "working", "--importance", "0.9", "--expires", "2100-01-01T00:00:00Z", "--agent", "a",
        "--session", "s", "--user", "u", "--metadata", '{"n": 1}', "--supersedes", "m0", "--near", "merge",
    )  # fmt: skip
    assert api.run("memory", "add", "Tea.", *options) == 0
    body = {
        "memory_type": "working", "content": "Tea.", "importance": 0.9, "expires_at": "2100-01-01T00:00:00Z",
        "agent_id": "a", "session_id": "s", "user_id": "u", "metadata": {"n": 1}, "supersedes": ["m0"],
        "on_near_duplicate": "merge",
    }  # fmt: skip
    assert api.asked == [("POST", "/memories", body)]
    assert tuple(api.shown()) == ("m1\n", "")


def test_what_is_not_said_is_left_out(api: Scripted) -> None:
    api.answer = lambda *_: STORED
    assert api.run("memory", "add", "Tea.") == 0
    (_, _, body) = api.asked[0]
    assert set(body) == {"memory_type", "content", "importance", "supersedes", "on_near_duplicate"}


def test_a_text_comes_from_standard_input(api: Scripted, monkeypatch: pytest.MonkeyPatch) -> None:
    api.answer = lambda *_: STORED
    monkeypatch.setattr(sys, "stdin", TextIOWrapper(BytesIO(b"one\n\ntwo\n")))
    assert api.run("memory", "add", "-", "--json") == 0
    assert api.asked[0][2]["content"] == "one\n\ntwo"
    assert json.loads(api.shown().out) == STORED


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ({"result": "duplicate_of", "duplicate_of": "m1"}, "was here already"),
        ({"result": "updated"}, "is merged"),
        ({"near_duplicates": [{"id": "m7", "similarity": 0.97}]}, "m7 says nearly the same (0.970)"),
    ],
)
def test_what_became_of_a_text_is_said(api: Scripted, told: dict[str, Any], said: str) -> None:
    api.answer = lambda *_: STORED | told
    assert api.run("memory", "add", "Tea.") == 0
    shown = api.shown()
    assert shown.out == "m1\n"
    assert said in shown.err


def test_a_search_is_a_table_of_scores(api: Scripted) -> None:
    api.answer = lambda *_: found(MEMORY | {"score": 1.23456, "explain": None})
    options = ("--type", "semantic", "--user", "u", "--filter", '{"n": {"$gt": 1}}', "--limit", "3", "--mode", "vector")
    assert api.run("memory", "search", "what", *options) == 0
    body = {
        "memory_type": "semantic", "user_id": "u", "filter": {"n": {"$gt": 1}}, "query": "what", "limit": 3,
        "mode": "vector", "explain": False,
    }  # fmt: skip
    assert api.asked == [("POST", "/memories/search", body)]
    shown = api.shown()
    assert [line.split() for line in shown.out.splitlines()] == [
        ["score", "type", "id", "text"], ["1.235", "semantic", "m1", "Grace", "drinks", "tea.", "[2J"],
    ]  # fmt: skip
    assert shown.err == ""


def test_a_search_that_is_explained_shows_the_parts(api: Scripted) -> None:
    parts = {"cosine": 0.5, "recency": 1.0}
    api.answer = lambda *_: found(
        MEMORY | {"score": 1, "explain": parts}, MEMORY | {"score": 0.5, "explain": {"cosine": 0.25}}
    )
    assert api.run("memory", "search", "what", "--explain") == 0
    assert api.asked[0][2]["explain"]
    rows = [line.split()[:5] for line in api.shown().out.splitlines()]
    assert rows[0] == ["score", "cosine", "recency", "type", "id"]
    assert rows[1] == ["1.000", "0.500", "1.000", "semantic", "m1"]
    assert rows[2][:4] == ["0.500", "0.250", "semantic", "m1"]


def test_a_search_that_may_miss_something_says_so(api: Scripted) -> None:
    api.answer = lambda *_: found(degraded_by=("index_away", "index_behind"))
    assert api.run("memory", "search", "what") == 0
    assert "Something may be missing: index_away, index_behind." in api.shown().err


def test_a_list_is_a_table(api: Scripted) -> None:
    api.answer = lambda *_: {"items": [MEMORY], "next_cursor": "x"}
    assert api.run("memory", "list", "--session", "s", "--status", "merged", "--limit", "1") == 0
    assert api.asked == [("GET", "/memories", {"session_id": "s", "status": "merged", "limit": 1})]
    shown = api.shown()
    assert shown.out.splitlines()[1].split()[2:5] == ["semantic", "m1", "Grace"]
    assert "There are more" in shown.err


def test_a_memory_is_shown_with_its_lines_and_without_a_terminal_s_language(api: Scripted) -> None:
    api.answer = lambda *_: MEMORY
    assert api.run("memory", "show", "m1") == 0
    out = api.shown().out
    assert out.endswith("\nGrace drinks\ntea. [2J\n")
    assert "version      2\n" in out
    assert "metadata" not in out
    assert api.run("memory", "show", "m1", "--json") == 0
    assert json.loads(api.shown().out) == MEMORY


def test_a_history_is_a_table(api: Scripted) -> None:
    version = {"version": 1, "replaced_at": "2030-01-01T00:00:00Z", "memory_type": "working", "content": "a\nb"}
    api.answer = lambda *_: {"items": [version], "next_cursor": None}
    assert api.run("memory", "history", "m1") == 0
    assert api.asked == [("GET", "/memories/m1/history", {})]
    assert api.shown().out.splitlines()[1].endswith("working  a b")


@pytest.mark.parametrize(
    ("argv", "body"),
    [
        (("m1", "m2"), {"ids": ["m1", "m2"]}),
        (("--user", "u", "--before", "2020-01-01T00:00:00Z", "--yes"),
         {"user_id": "u", "created_before": "2020-01-01T00:00:00Z"}),
        (("--filter", '{"a": 1}', "--yes"), {"filter": {"a": 1}}), (("--all", "--yes"), {"all": True}),
    ],
)  # fmt: skip
def test_what_is_to_be_forgotten_is_asked_for_until_nothing_is_left(
    api: Scripted, argv: tuple[str, ...], body: dict[str, Any]
) -> None:
    api.answer = lambda *_: {"forgotten": 2, "more": len(api.asked) < 2}
    assert api.run("memory", "forget", *argv) == 0
    assert api.asked == [("POST", "/memories/forget", body)] * 2
    assert api.shown().out == "4 memories are forgotten.\n"


@pytest.mark.parametrize(
    ("argv", "why"),
    [
        ((), "Give ids"), (("m1", "--all", "--yes"), "Give ids"), (("--user", "u"), "--yes"), (("--all",), "--yes"),
        (("--filter", "[]", "--yes"), "--filter is no object"),
    ],
)  # fmt: skip
def test_nothing_is_forgotten_by_mistake(cli: Cli, argv: tuple[str, ...], why: str) -> None:
    assert why in cli.refuses("memory", "forget", *argv)


def test_a_consolidation_shows_what_was_merged(api: Scripted) -> None:
    group = {"kept": "m1", "merged": ["m2", "m3"], "similarity": 0.961}
    api.answer = lambda *_: {"groups": [group], "compared": 5, "more": True}
    assert api.run("memory", "consolidate", "--type", "semantic", "--threshold", "0.9", "--dry-run") == 0
    body = {"memory_type": "semantic", "threshold": 0.9, "limit": 1000, "dry_run": True}
    assert api.asked == [("POST", "/memories/consolidate", body)]
    shown = api.shown()
    assert [line.split() for line in shown.out.splitlines()] == [
        ["kept", "similarity", "would", "be", "merged"], ["m1", "0.961", "m2"], ["m1", "0.961", "m3"],
    ]  # fmt: skip
    assert "5 were compared, and there are more" in shown.err


@pytest.mark.parametrize("command", ["show", "history"])
def test_an_id_that_is_none_is_refused(cli: Cli, command: str) -> None:
    assert "'../keys' is no id" in cli.refuses("memory", command, "../keys")


@pytest.mark.parametrize("given", ["{", "[]", "3"])
def test_metadata_that_are_none_are_refused(cli: Cli, given: str) -> None:
    assert "--metadata is n" in cli.refuses("memory", "add", "x", "--metadata", given)
