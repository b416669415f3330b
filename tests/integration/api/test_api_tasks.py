"""Tasks over HTTP: submit, list, show, cancel, retry and look inside."""

from __future__ import annotations

import re
from typing import Any

import pytest

from app.db import transaction
from app.tasks.report import report
from schema.tasks import EventKind
from tests import support
from tests.integration.api.conftest import Caller

ECHO = {"task_type": "echo", "payload": {"n": 1}}
FIELDS = {
    "id", "description", "task_type", "priority", "status", "progress", "assigned_to", "deadline", "dependencies",
    "result", "error", "created_at", "updated_at", "completed_at", "attempt", "max_attempts", "round", "queue",
    "workflow_id", "key", "payload", "labels", "owner", "session_id", "started_at", "available_at", "failures",
}  # fmt: skip
STAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")


def test_a_task_is_accepted_and_found_again(ada: Caller) -> None:
    response = ada.call("POST", "/tasks", ECHO | {"description": "first", "labels": {"team": "a"}, "priority": "high"})
    task = response.get_json()
    assert response.status_code == 202
    assert set(task) == FIELDS
    assert response.headers["Location"] == f"/api/v1/tasks/{task['id']}"
    assert (task["status"], task["owner"], task["priority"]) == ("pending", "ada", "high")
    assert (task["payload"], task["labels"], task["dependencies"]) == ({"n": 1}, {"team": "a"}, [])
    assert STAMP.fullmatch(task["created_at"])
    assert ada.get(f"/tasks/{task['id']}") == task
    assert support.envelopes("gateway") == [("gateway.admit", [])]


def test_everything_that_can_be_asked_for_arrives(ada: Caller, admin: Caller) -> None:
    agent = admin.post(
        "/agents", {"name": "scout", "role": "finder", "goal": "Find.", "agent_type": "researcher"}, status=201
    )
    parent = ada.post("/tasks", ECHO)
    asked = ECHO | {
        "deadline": "2100-01-01T02:00:00.5+02:00",
        "dependencies": [parent["id"]],
        "assigned_to": agent["id"],
        "max_attempts": 7,
        "delay_s": 3600,
    }
    task = ada.post("/tasks", asked)
    assert task["deadline"] == "2100-01-01T00:00:00.500000Z"
    assert (task["dependencies"], task["assigned_to"], task["max_attempts"]) == ([parent["id"]], agent["id"], 7)
    assert task["available_at"] > task["created_at"]


@pytest.mark.parametrize(
    ("body", "loc"),
    [
        ({"task_type": "cobol", "payload": {}}, ["task_type"]),
        ({"task_type": "python", "payload": {"code": "1", "limits": {"wall_s": 0}}}, ["payload", "limits", "wall_s"]),
        (ECHO | {"assigned_to": "nobody"}, ["assigned_to"]),
        (ECHO | {"max_attempts": 0}, ["max_attempts"]),
    ],
)
def test_a_refusal_says_where(ada: Caller, body: Any, loc: list[Any]) -> None:
    problem = ada.post("/tasks", body, status=422)
    assert problem["code"] == "invalid"
    assert [error["loc"] for error in problem["errors"]] == [loc]
    assert ada.get("/tasks")["items"] == []


def test_what_is_not_there_is_not_found_and_named(ada: Caller) -> None:
    body = ECHO | {"dependencies": ["nobody"], "session_id": "none"}
    alone = ada.post("/tasks", body, status=404)
    among = ada.post("/tasks/batch", {"tasks": [ECHO, body]}, status=404)
    assert [error["loc"] for error in alone["errors"]] == [["dependencies", 0], ["session_id"]]
    assert [error["loc"] for error in among["errors"]] == [["tasks", 1, "dependencies", 0], ["tasks", 1, "session_id"]]
    assert ada.get("/tasks")["items"] == []


def test_a_batch_is_accepted_in_order(ada: Caller) -> None:
    tasks = [{"task_type": "echo", "payload": {"n": n}} for n in range(1000)]
    items = ada.post("/tasks/batch", {"tasks": tasks})["items"]
    assert [item["status"] for item in items] == ["pending"] * 1000
    assert ada.get(f"/tasks/{items[700]['id']}")["payload"] == {"n": 700}


def test_a_batch_is_all_or_nothing(ada: Caller) -> None:
    problem = ada.post("/tasks/batch", {"tasks": [ECHO, ECHO | {"task_type": "cobol"}]}, status=422)
    assert [error["loc"] for error in problem["errors"]] == [["tasks", 1, "task_type"]]
    assert ada.get("/tasks")["items"] == []


def test_lists_are_paged_newest_first_without_gap_or_repeat(ada: Caller) -> None:
    posted = [item["id"] for item in ada.post("/tasks/batch", {"tasks": [ECHO] * 7})["items"]]
    seen, cursor = [], ""
    while cursor is not None:
        page = ada.get(f"/tasks?limit=3{cursor and '&cursor=' + cursor}")
        assert len(page["items"]) <= 3
        seen += [task["id"] for task in page["items"]]
        cursor = page["next_cursor"]
    assert seen == sorted(posted, reverse=True)


@pytest.mark.parametrize("cursor", ["nonsense", "W10=", "WyIyMDIwLTAxLTAxIiwgIlx1MDAwMCJd", "é"])
def test_a_foreign_cursor_is_refused(ada: Caller, cursor: str) -> None:
    assert ada.get(f"/tasks?cursor={cursor}", status=422)["errors"][0]["loc"] == ["cursor"]


def test_lists_are_filtered(ada: Caller) -> None:
    plain = ada.post("/tasks", ECHO)["id"]
    marked = ada.post("/tasks", ECHO | {"labels": {"team": "a:b"}, "description": "Count 100% of all"})["id"]
    ended = support.put("succeeded")
    code = ada.post("/tasks", {"task_type": "python", "payload": {"code": "1"}})["id"]
    wanted = {
        "status=succeeded": {ended},
        "label=team:a:b": {marked},
        "label=team:a": set(),
        "q=100%25": {marked},
        "q=count": {marked},
        f"q={plain}": {plain},
        "task_type=python": {code},
        "queue=memory": set(),
        "queue=execution": {plain, marked, ended, code},
        "workflow_id=w": set(),
        "session_id=s": set(),
    }
    for query, ids in wanted.items():
        assert {task["id"] for task in ada.get(f"/tasks?{query}")["items"]} == ids, query


@pytest.mark.parametrize("state", support.STATES)
def test_every_state_is_shown(ada: Caller, state: str) -> None:
    task = ada.get(f"/tasks/{support.put(state)}")
    assert set(task) == FIELDS
    assert task["status"] == state
    assert (task["completed_at"] is not None) == (state in ("succeeded", "failed", "cancelled", "skipped"))


@pytest.mark.parametrize(
    ("state", "status", "then"),
    [
        ("pending", 200, "cancelled"),
        ("queued", 200, "cancelled"),
        ("running", 202, "running"),
        ("cancelled", 200, "cancelled"),
        ("succeeded", 409, "succeeded"),
        ("failed", 409, "failed"),
        ("skipped", 409, "skipped"),
    ],
)
def test_cancel(ada: Caller, state: str, status: int, then: str) -> None:
    task_id = support.put(state)
    for _ in range(2):
        answer = ada.post(f"/tasks/{task_id}/cancel", status=status)
        assert answer["status"] == (409 if status == 409 else then)
    assert support.status(task_id) == then


@pytest.mark.parametrize("state", support.STATES)
def test_retry(ada: Caller, state: str) -> None:
    task_id = support.put(state)
    if state not in ("failed", "cancelled"):
        assert ada.post(f"/tasks/{task_id}/retry", status=409)["code"] == "conflict"
        return
    task = ada.post(f"/tasks/{task_id}/retry", {"payload": {"again": True}})
    assert (task["status"], task["round"], task["payload"]) == ("pending", 2, {"again": True})


def test_retry_checks_the_new_payload(ada: Caller) -> None:
    task_id = support.put("failed", task_type="python", payload={"code": "1"})
    problem = ada.post(f"/tasks/{task_id}/retry", {"payload": {"cod": "2"}}, status=422)
    assert {tuple(error["loc"]) for error in problem["errors"]} >= {("payload", "cod")}
    assert support.status(task_id) == "failed"
    assert ada.post(f"/tasks/{task_id}/retry")["payload"] == {"code": "1"}


def test_events_are_paged_by_seq(ada: Caller) -> None:
    task_id = support.put("succeeded")
    everything = ada.get(f"/tasks/{task_id}/events")
    assert everything["next_cursor"] is None
    assert [set(event) for event in everything["items"]] == [{"seq", "kind", "at", "attempt", "data"}] * 4
    assert [event["kind"] for event in everything["items"]] == ["accepted", "queued", "running", "succeeded"]
    first = ada.get(f"/tasks/{task_id}/events?limit=3")
    rest = ada.get(f"/tasks/{task_id}/events?after={first['next_cursor']}")
    assert first["items"] + rest["items"] == everything["items"]


def test_logs_are_what_the_programs_wrote(ada: Caller) -> None:
    claim = support.running()
    with transaction() as db:
        pieces = [{"stream": "stdout", "text": "hello\n"}, {"stream": "stderr", "text": "oh\n"}]
        wrote = [(EventKind.LOG, piece) for piece in pieces]
        assert report(db, claim.id, claim.attempt, [wrote[0], (EventKind.PROGRESS, {"progress": 5}), wrote[1]])
    page = ada.get(f"/tasks/{claim.id}/logs")
    assert [(log["seq"], log["stream"], log["text"]) for log in page["items"]] == [
        (4, "stdout", "hello\n"),
        (6, "stderr", "oh\n"),
    ]
    assert [log["seq"] for log in ada.get(f"/tasks/{claim.id}/logs?after=4")["items"]] == [6]
    assert ada.get(f"/tasks/{claim.id}")["progress"] == 5


def test_attempts_are_listed(ada: Caller) -> None:
    (attempt,) = ada.get(f"/tasks/{support.put('failed')}/attempts")["items"]
    assert (attempt["attempt"], attempt["outcome"], attempt["error"]) == (1, "failed", "It broke.")


def test_explain_names_what_is_waited_for(ada: Caller) -> None:
    parent = support.post_one()
    child = support.post_one(dependencies=[parent])
    told = ada.get(f"/tasks/{child}/explain")
    assert (told["task_id"], told["status"], told["dispatches"]) == (child, "pending", 0)
    assert told["waiting_for"][0] == {
        "kind": "parent", "detail": f"Parent {parent} is pending.", "task_id": parent, "status": "pending",
    }  # fmt: skip
    claim = support.running()
    assert STAMP.fullmatch(ada.get(f"/tasks/{claim.id}/explain")["lease_until"])
    assert ada.get(f"/tasks/{support.put('succeeded')}/explain")["waiting_for"] == []
