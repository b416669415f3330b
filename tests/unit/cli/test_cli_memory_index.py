"""`clawq memory status`, `rebuild` and `verify`."""

from __future__ import annotations

import json
from typing import Any

import pytest

from app.cli import memory_index
from app.cli.client import ApiError
from tests.unit.cli.scripted import Scripted

SAME = {"expected": 3, "pending": 1, "failed": 0, "missing": 0, "ghosts": 0, "examples": [], "repaired": False,
        "differences": 0}  # fmt: skip


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Scripted:
    """An API that answers what a test says; nobody waits for it."""
    monkeypatch.setattr(memory_index.time, "sleep", lambda _: None)
    return Scripted(monkeypatch, capsys)


def index(number: int, **values: Any) -> dict[str, Any]:
    return {"id": number, "embedder": "hash-1:1536", "collection": f"c{number}", "pending": 0, "failed": 0,
            "lag_s": 0.25, **values}  # fmt: skip


def told(active: Any = None, building: Any = None, **values: Any) -> dict[str, Any]:
    return {"active": active, "building": building, "configured": "hash-1:1536", "failures": [], **values}


def answers(api: Scripted, *states: dict[str, Any]) -> None:
    """Answer each time with the next of these; to a request to rebuild with the next, too."""
    left = list(states)
    api.answer = lambda *_: left.pop(0)


def test_the_status_is_a_table(api: Scripted) -> None:
    failure = {"memory_id": "m1", "error": "too long", "failures": 5, "failed_at": None}
    answers(api, told(index(1, pending=4), index(2, failed=1), failures=[failure]))
    assert api.run("memory", "status") == 0
    rows = [line.split() for line in api.shown().out.splitlines()]
    assert rows[1] == ["active", "hash-1:1536", "4", "0", "0.2", "s", "c1"]
    assert rows[2][:4] == ["building", "hash-1:1536", "0", "1"]
    assert rows[4] == ["m1", "5", "is", "tried", "again", "too", "long"]


@pytest.mark.parametrize(
    ("state", "said"),
    [
        (told(), "There is no index yet"),
        (told(index(1), configured="onnx:x"), "The settings ask for onnx:x"),
        (told(index(1)), ""),
    ],
)
def test_the_status_says_what_to_do(api: Scripted, state: dict[str, Any], said: str) -> None:
    answers(api, state)
    assert api.run("memory", "status") == 0
    err = api.shown().err
    assert said in err
    assert bool(err) == bool(said)


def test_a_rebuild_is_over_once_the_new_index_serves(api: Scripted) -> None:
    building = told(index(1), index(2, pending=5))
    answers(api, told(index(1)), building, building, building, told(index(2, failed=3)))
    assert api.run("memory", "rebuild") == 0
    assert [(method, path) for method, path, _ in api.asked] == [
        ("GET", "/memories/index"), ("POST", "/memories/index/rebuild"), *[("GET", "/memories/index")] * 3,
    ]  # fmt: skip
    assert api.shown().out == "The new index serves, without 3 that failed.\n"


def test_a_rebuild_that_is_under_way_is_followed(api: Scripted) -> None:
    answers(api, told(index(1), index(2)), told(index(2)))
    assert api.run("memory", "rebuild", "--json") == 0
    assert {method for method, *_ in api.asked} == {"GET"}
    shown = api.shown()
    assert json.loads(shown.out)["active"]["id"] == 2
    assert "being built already" in shown.err


def test_a_rebuild_that_another_one_overtook_failed(api: Scripted) -> None:
    answers(api, told(index(1)), told(index(1), index(2)), told(index(3)))
    assert api.run("memory", "rebuild") == 1
    assert "Another index" in api.shown().err


@pytest.mark.parametrize(("why", "code"), [(KeyboardInterrupt(), 130), (ApiError("gone"), 1)])
def test_who_stops_waiting_is_told_that_it_goes_on(api: Scripted, why: BaseException, code: int) -> None:
    left = [told(index(1)), told(index(1), index(2))]

    def answer(*_: Any) -> Any:
        if not left:
            raise why
        return left.pop(0)

    api.answer = answer
    assert api.run("memory", "rebuild") == code
    assert "The building goes on." in api.shown().err


@pytest.mark.parametrize("options", [(), ("--json",)])
@pytest.mark.parametrize(("differences", "code"), [(0, 0), (2, 1)])
def test_differences_decide_the_exit_code(api: Scripted, options: tuple[str, ...], differences: int, code: int) -> None:
    report = SAME | {"missing": differences, "differences": differences, "examples": ["m1:1"] * differences}
    answers(api, report)
    assert api.run("memory", "verify", *options) == code
    assert api.asked == [("POST", "/memories/index/verify", {"repair": False})]
    shown = api.shown()
    if options:
        assert json.loads(shown.out) == report
    else:
        assert f"3 memories: {differences} missing, 0 ghosts, 0 failed; 1 on their way." in shown.out
        assert shown.out.count("m1:1") == differences
    assert ("--repair" in shown.err) == bool(differences)


def test_a_repair_is_asked_for(api: Scripted) -> None:
    answers(api, SAME | {"ghosts": 1, "differences": 1, "repaired": True})
    assert api.run("memory", "verify", "--repair") == 1
    assert api.asked[0][2] == {"repair": True}
    assert "are being set right" in api.shown().err


def test_a_vacuum_needs_a_chroma_of_its_own(api: Scripted, environment: pytest.MonkeyPatch) -> None:
    assert api.run("memory", "vacuum") == 1
    assert "empty its directory and start it again" in api.shown().err
    assert api.asked == []
