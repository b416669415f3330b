"""Workflows over HTTP: submit in JSON and YAML, list, show, wait, draw, and steer."""

from __future__ import annotations

from typing import Any

import pytest
from werkzeug.test import TestResponse

from api import news, requests
from app import publisher
from tests import support
from tests.integration.api.conftest import Caller
from tests.integration.api.test_api_tasks import STAMP
from tests.integration.api.test_api_wait import Timed, subscribed, waiting
from tests.integration.workflows.rows import item, member, workflow

FLOW: dict[str, Any] = {
    "name": "nightly",
    "input": {"n": 1},
    "tasks": [
        {"key": "a", "task_type": "echo", "payload": {"n": 1}},
        {"key": "b", "task_type": "echo", "payload": {}, "depends_on": ["a"]},
    ],
}
AS_YAML = b"""
name: nightly
input: {n: 1}
tasks:
  - {key: a, task_type: echo, payload: {n: 1}}
  - key: b
    task_type: echo
    payload: {}
    depends_on: [a]
"""
FIELDS = {
    "id", "name", "description", "status", "progress", "counts", "input", "labels", "max_running", "deadline",
    "session_id", "rerun_of", "error", "owner", "created_at", "updated_at", "started_at", "completed_at",
    "cancel_requested_at",
}  # fmt: skip
STATES = ("pending", "running", "paused", "succeeded", "failed", "cancelled")


def send(caller: Caller, data: bytes, media_type: str) -> TestResponse:
    return caller.call("POST", "/workflows", data=data, headers={"Content-Type": media_type})


def test_a_workflow_is_accepted_and_found_again(ada: Caller) -> None:
    response = ada.call("POST", "/workflows", FLOW)
    told = response.get_json()
    assert response.status_code == 202
    assert set(told) == FIELDS
    assert response.headers["Location"] == f"/api/v1/workflows/{told['id']}"
    assert (told["status"], told["owner"], told["input"]) == ("pending", "ada", {"n": 1})
    assert STAMP.fullmatch(told["created_at"])
    document = {name: value for name, value in FLOW.items() if name != "input"}
    assert ada.get(f"/workflows/{told['id']}") == told | {"document": document}
    assert ada.get("/workflows") == {"items": [told], "next_cursor": None}
    tasks = {task["key"]: task for task in ada.get(f"/tasks?workflow_id={told['id']}")["items"]}
    assert tasks["b"]["dependencies"] == [tasks["a"]["id"]]


@pytest.mark.parametrize("media_type", ["application/yaml", "application/x-yaml", "application/yaml; charset=utf-8"])
def test_yaml_says_the_same(ada: Caller, media_type: str) -> None:
    said = send(ada, AS_YAML, media_type).get_json()
    one, other = (ada.get(f"/workflows/{posted['id']}") for posted in (said, ada.post("/workflows", FLOW)))
    for name in ("document", "input", "name", "counts"):
        assert one[name] == other[name]


@pytest.mark.parametrize("media_type", ["text/yaml", "text/plain", "", "application/octet-stream"])
def test_other_media_types_are_refused(ada: Caller, media_type: str) -> None:
    refused = send(ada, AS_YAML, media_type)
    assert (refused.status_code, refused.get_json()["code"]) == (415, "unsupported_media_type")
    assert "application/json or application/yaml" in refused.get_json()["detail"]
    assert ada.get("/workflows")["items"] == []


@pytest.mark.parametrize("path", ["/tasks", "/workflows/x/rerun"])
def test_yaml_is_taken_only_where_it_is_declared(ada: Caller, path: str) -> None:
    response = ada.call("POST", path, data=b"a: 1", headers={"Content-Type": "application/yaml"})
    assert response.status_code == 415
    document = ada.get("/openapi.json")
    bodies = {path: list(at["post"]["requestBody"]["content"]) for path, at in document["paths"].items() if "post" in at
              and "requestBody" in at["post"]}  # fmt: skip
    assert bodies.pop("/api/v1/workflows") == ["application/json", "application/yaml"]
    assert {tuple(media) for media in bodies.values()} == {("application/json",)}


def test_yaml_that_is_none_is_refused_with_its_place(ada: Caller) -> None:
    refused = send(ada, b"name: x\ntasks: ]", "application/yaml").get_json()
    assert (refused["status"], refused["code"]) == (422, "invalid")
    assert "line 2" in refused["errors"][0]["msg"]
    assert send(ada, b"name: &a x\ntasks: *a", "application/yaml").status_code == 422
    assert send(ada, b'name: "\\0"\ntasks: []', "application/yaml").get_json()["errors"][0]["loc"] == ["name"]
    assert send(ada, b"name: x\ntasks: []\nnmae: y", "application/yaml").status_code == 422
    assert ada.get("/workflows")["items"] == []


def test_yaml_has_a_bound_of_its_own(ada: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requests, "MAX_YAML_BYTES", len(AS_YAML))
    assert send(ada, AS_YAML, "application/yaml").status_code == 202
    refused = send(ada, AS_YAML + b"\n", "application/yaml")
    assert (refused.status_code, refused.get_json()["code"]) == (413, "too_large")


def test_a_repeat_makes_no_second_workflow(ada: Caller) -> None:
    once = {"headers": {"Idempotency-Key": "k"}}
    assert ada.post("/workflows", FLOW, **once) == ada.post("/workflows", FLOW, **once)
    assert len(ada.get("/workflows")["items"]) == 1


@pytest.mark.parametrize(
    ("change", "loc"),
    [
        ({"max_running": 0}, ["max_running"]),
        ({"tasks": [FLOW["tasks"][0], FLOW["tasks"][1] | {"depends_on": ["x"]}]}, ["tasks", 1, "depends_on", 0]),
        ({"tasks": [FLOW["tasks"][0] | {"depends_on": ["b"]}, FLOW["tasks"][1]]}, ["tasks", 0, "depends_on", 0]),
        ({"tasks": [FLOW["tasks"][0] | {"task_type": "cobol"}]}, ["tasks", 0, "task_type"]),
        ({"tasks": [FLOW["tasks"][0] | {"payload": {"$ref": "nothing"}}]}, ["tasks", 0, "payload", "$ref"]),
    ],
)
def test_a_refusal_says_where(ada: Caller, change: dict[str, Any], loc: list[Any]) -> None:
    problem = ada.post("/workflows", FLOW | change, status=422)
    assert problem["code"] == "invalid"
    assert [error["loc"] for error in problem["errors"]] == [loc]
    assert ada.get("/workflows")["items"] == ada.get("/tasks")["items"] == []


def test_a_session_that_is_not_there_is_not_found(ada: Caller) -> None:
    assert ada.post("/workflows", FLOW | {"session_id": "none"}, status=404)["errors"][0]["loc"] == ["session_id"]


@pytest.mark.parametrize("status", STATES)
def test_every_state_is_shown(ada: Caller, status: str) -> None:
    one = workflow(status, error="It broke." if status == "failed" else None)
    member(one, "a", "succeeded")
    member(one, "b", "running")
    told = ada.get(f"/workflows/{one}")
    assert set(told) == FIELDS | {"document"}
    assert (told["status"], told["progress"]) == (status, 100 if status in STATES[3:] else 50)
    assert told["counts"] == dict.fromkeys(support.STATES, 0) | {"succeeded": 1, "running": 1}


def test_lists_are_filtered_and_paged(ada: Caller, bob: Caller, admin: Caller) -> None:
    ids = [workflow(), workflow("failed"), workflow(name="weekly"), workflow(labels={"team": "a:b"})]
    hers = workflow(owner="bob")
    wanted = {
        "status=failed": {ids[1]},
        "name=weekly": {ids[2]},
        "label=team:a:b": {ids[3]},
        "session_id=s": set(),
        "limit=10": set(ids),
    }
    for query, found in wanted.items():
        assert {one["id"] for one in ada.get(f"/workflows?{query}")["items"]} == found, query
    assert [one["id"] for one in bob.get("/workflows")["items"]] == [hers]
    assert len(admin.get("/workflows")["items"]) == 5
    first = ada.get("/workflows?limit=3")
    rest = ada.get(f"/workflows?limit=3&cursor={first['next_cursor']}")
    assert [one["id"] for one in first["items"] + rest["items"]] == ids[::-1]
    assert rest["next_cursor"] is None


@pytest.mark.parametrize("path", ["", "/graph", "?wait=60"])
def test_another_owner_s_workflow_is_not_there_to_read(ada: Caller, bob: Caller, admin: Caller, path: str) -> None:
    one = workflow("failed")
    assert bob.get(f"/workflows/{one}{path}", status=404)["detail"] == f"No workflow {one}."
    assert ada.get(f"/workflows/{one}{path}")
    assert admin.get(f"/workflows/{one}{path}")


@pytest.mark.parametrize("verb", ["cancel", "pause", "resume", "retry", "rerun"])
def test_another_owner_s_workflow_is_not_there_to_steer(ada: Caller, bob: Caller, verb: str) -> None:
    one = ada.post("/workflows", FLOW)
    assert bob.post(f"/workflows/{one['id']}/{verb}", status=404)["code"] == "not_found"
    assert bob.post(f"/workflows/none/{verb}", status=404)
    shown = ada.get(f"/workflows/{one['id']}")
    assert {name: shown[name] for name in one} == one
    assert len(ada.get("/workflows")["items"]) == 1


def test_the_graph_is_drawn(ada: Caller) -> None:
    one = workflow()
    a = member(one, "a", "succeeded", started_at="now() - interval '9 seconds'", completed_at="now()", attempt=1)
    m = member(one, "m", after=[a])
    m0 = item(one, m, "m", 0, "failed", error="It broke.")
    graph = ada.get(f"/workflows/{one}/graph")
    assert set(graph) == {"nodes", "edges", "critical_path", "left_out"}
    assert sorted(graph["edges"]) == [["a", "m"], ["m[0]", "m"]]
    assert graph["critical_path"] == ["a", "m[0]", "m"]
    first, second, third = graph["nodes"]
    assert STAMP.fullmatch(first["started_at"])
    assert (first["key"], first["task_id"], first["duration_s"]) == ("a", a, 9.0)
    assert (second["mapped_from"], second["duration_s"]) == (None, None)
    assert third == {
        "key": "m[0]", "task_id": m0, "task_type": "echo", "status": "failed", "progress": 0, "attempt": 0,
        "started_at": None, "completed_at": None, "duration_s": None, "error": "It broke.", "mapped_from": "m",
    }  # fmt: skip


def test_a_wait_ends_when_the_workflow_does(ada: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    # Without its own looks, only the notice can end the wait in time.
    monkeypatch.setattr("api.news.POLL_S", 60)
    one = workflow()
    request = Timed(ada, f"/workflows/{one}?wait=20")
    support.eventually(lambda: waiting(one) and subscribed())
    support.sql("UPDATE workflows SET status = 'succeeded' WHERE id = :id", id=one)
    publisher.tell([one])
    assert request.join()["status"] == "succeeded"
    assert request.seconds < 10


def test_a_wait_ends_when_its_time_is_up_or_at_once(ada: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    one = workflow("paused")
    assert ada.get(f"/workflows/{one}?wait=0.1")["status"] == "paused"
    ended = Timed(ada, f"/workflows/{workflow('failed')}?wait=60")
    assert ended.join()["status"] == "failed"
    monkeypatch.setattr(news.news(), "_most", 0)
    full = Timed(ada, f"/workflows/{one}?wait=60")
    assert full.join()["status"] == "paused"
    assert full.response.headers["Retry-After"] == "1"
    assert ended.seconds + full.seconds < 20


def posted(ada: Caller, **states: str) -> str:
    """A workflow whose tasks `a` and `b` are in these states."""
    one: str = ada.post("/workflows", FLOW)["id"]
    for key, status in states.items():
        support.sql("UPDATE tasks SET status = :status WHERE workflow_id = :id AND key = :key",
                    id=one, key=key, status=status)  # fmt: skip
    return one


def ended(ada: Caller, status: str) -> str:
    """A workflow that has ended so."""
    good = status == "succeeded"
    one = posted(ada, a="succeeded", b="succeeded" if good else status)
    support.sql("UPDATE workflows SET status = :status, completed_at = now() WHERE id = :id", id=one, status=status)
    return one


def test_what_has_not_begun_is_cancelled_at_once(ada: Caller) -> None:
    one = posted(ada)
    told = ada.post(f"/workflows/{one}/cancel", status=200)
    assert (set(told), told["status"], told["progress"], told["counts"]["cancelled"]) == (FIELDS, "cancelled", 100, 2)
    assert STAMP.fullmatch(told["cancel_requested_at"])
    assert ada.post(f"/workflows/{one}/cancel", status=200) == told


def test_what_runs_is_asked_to_stop(ada: Caller) -> None:
    one = posted(ada, a="running")
    for _ in range(2):
        told = ada.post(f"/workflows/{one}/cancel", status=202)
        assert told["status"] not in ("cancelled", "failed")
        assert (told["counts"]["running"], told["counts"]["cancelled"]) == (1, 1)


def test_a_workflow_is_paused_and_resumed(ada: Caller) -> None:
    one = posted(ada)
    for verb, status in (("pause", "paused"), ("pause", "paused"), ("resume", "running"), ("resume", "running")):
        assert ada.post(f"/workflows/{one}/{verb}", status=200)["status"] == status


@pytest.mark.parametrize("status", ["failed", "cancelled"])
def test_what_did_not_succeed_is_retried(ada: Caller, status: str) -> None:
    one = ended(ada, status)
    response = ada.call("POST", f"/workflows/{one}/retry")
    told = response.get_json()
    assert (response.status_code, response.headers["Location"]) == (202, f"/api/v1/workflows/{one}")
    assert (told["status"], told["completed_at"]) == ("running", None)
    assert {node["key"]: node["status"] for node in ada.get(f"/workflows/{one}/graph")["nodes"]} == {
        "a": "succeeded", "b": "pending",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("verb", "status"),
    [
        ("cancel", "succeeded"), ("cancel", "failed"), ("pause", "failed"), ("pause", "cancelled"),
        ("resume", "succeeded"), ("retry", "succeeded"), ("retry", "running"),
    ],
)  # fmt: skip
def test_a_state_that_does_not_allow_it_is_a_conflict(ada: Caller, verb: str, status: str) -> None:
    one = posted(ada, a="running") if status == "running" else ended(ada, status)
    assert ada.post(f"/workflows/{one}/{verb}", status=409)["code"] == "conflict"


@pytest.mark.parametrize(("body", "given"), [(None, {"n": 1}), ({"input": {"n": 2}}, {"n": 2}), ({"input": {}}, {})])
def test_a_rerun_is_a_new_workflow(ada: Caller, body: dict[str, Any] | None, given: dict[str, Any]) -> None:
    one = ended(ada, "failed")
    once = {"headers": {"Idempotency-Key": "k"}}
    response = ada.call("POST", f"/workflows/{one}/rerun", body, **once)
    told = response.get_json()
    assert (response.status_code, told["rerun_of"], told["status"]) == (202, one, "pending")
    assert (told["input"], told["counts"]["pending"]) == (given, 2)
    assert response.headers["Location"] == f"/api/v1/workflows/{told['id']}" != f"/api/v1/workflows/{one}"
    assert ada.post(f"/workflows/{one}/rerun", body, **once) == told
    again, before = (ada.get(f"/workflows/{workflow_id}") for workflow_id in (told["id"], one))
    assert again["document"] == before["document"]
    assert (before["status"], before["input"]) == ("failed", {"n": 1})


def test_an_administrator_s_rerun_is_its_owner_s(ada: Caller, admin: Caller) -> None:
    told = admin.post(f"/workflows/{ended(ada, 'failed')}/rerun")
    assert ada.get(f"/workflows/{told['id']}")["owner"] == "ada"


def test_tasks_tell_their_key(ada: Caller) -> None:
    one = workflow()
    task_id = member(one, "a")
    assert (ada.get(f"/tasks/{task_id}")["key"], ada.get(f"/tasks/{task_id}")["workflow_id"]) == ("a", one)
    assert [task["key"] for task in ada.get(f"/tasks?workflow_id={one}")["items"]] == ["a"]
