"""Who may do what: keys, scopes, owners."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from flask.testing import FlaskClient

from api.factory import _SECTIONS
from app.db import transaction
from tests import support
from tests.integration.api.conftest import Caller

ENDPOINTS = [e for section in _SECTIONS for e in section.endpoints if e.scope]
RANK = ["read", "submit", "admin"]
ECHO = {"task_type": "echo", "payload": {}}


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=lambda e: e.name)
def test_a_lesser_scope_is_not_enough_and_the_named_one_is(caller: Callable[..., Caller], endpoint: object) -> None:
    path = endpoint.rule.removeprefix("/api/v1").replace("<", "").replace(">", "")  # type: ignore[attr-defined]
    for place, scope in enumerate(RANK):
        status = caller("ada", scope).call(endpoint.method, path).status_code  # type: ignore[attr-defined]
        assert (status == 403) == (place < RANK.index(endpoint.scope)), scope  # type: ignore[attr-defined]
        assert status < 500


def test_a_refusal_names_the_scope_that_is_missing(caller: Callable[..., Caller]) -> None:
    problem = caller("ada", "read").post("/tasks", ECHO, status=403)
    assert problem["code"] == "forbidden"
    assert "submit" in problem["detail"]


def test_a_key_that_is_wrong_expired_or_revoked_is_no_key(ada: Caller, admin: Caller) -> None:
    good = ada.key_text
    assert ada.get("/tasks")
    for wrong in (
        "clawq_x",
        good[:-1] + ("A" if good[-1] != "A" else "B"),
        good.replace("clawq", "CLAWQ"),
        good + " x",
    ):
        ada.key_text = wrong
        assert ada.get("/tasks", status=401)["code"] == "unauthorized"
    ada.key_text = good
    support.sql("UPDATE api_keys SET expires_at = now() WHERE id = :id", id=good.split("_")[1])
    assert ada.get("/tasks", status=401)
    support.sql("UPDATE api_keys SET expires_at = NULL WHERE id = :id", id=good.split("_")[1])
    assert ada.get("/tasks")
    assert admin.call("DELETE", f"/keys/{good.split('_')[1]}").status_code == 204
    assert ada.get("/tasks", status=401)


@pytest.mark.parametrize("change", ["revoked_at = now()", "expires_at = now()"])
def test_who_is_known_writes_nothing_from_the_moment_on_that_the_key_is_no_good(ada: Caller, change: str) -> None:
    parent = ada.post("/tasks", ECHO, headers={"Idempotency-Key": "k"})["id"]
    ada.post("/tasks", {**ECHO, "dependencies": ["x"]}, status=404)
    support.sql(f"UPDATE api_keys SET {change}")
    questions = (
        {"dependencies": [parent]},
        {"dependencies": ["x"]},
        {"assigned_to": "x"},
        {"task_type": "x"},
        {"x": 1},
    )
    for task in (ECHO, *({**ECHO, **question} for question in questions)):
        assert ada.post("/tasks", task, status=401)["code"] == "unauthorized"
    assert ada.post("/tasks", ECHO, status=401, headers={"Idempotency-Key": "k"})["code"] == "unauthorized"
    assert support.scalar("SELECT count(*) FROM tasks") == 1
    assert support.scalar("SELECT count(*) FROM events WHERE task_id <> :id", id=parent) == 0
    assert support.scalar("SELECT count(*) FROM edges") == 0


@pytest.mark.parametrize("path", ["", "/events", "/logs", "/attempts", "/explain"])
def test_another_owner_s_task_is_not_there_to_read(ada: Caller, bob: Caller, admin: Caller, path: str) -> None:
    task_id = ada.post("/tasks", ECHO)["id"]
    strange = bob.get(f"/tasks/{task_id}{path}", status=404)
    unknown = bob.get(f"/tasks/{'0' * 36}{path}", status=404)
    assert strange["detail"].replace(task_id, "") == unknown["detail"].replace("0" * 36, "")
    assert admin.get(f"/tasks/{task_id}{path}")
    assert ada.get(f"/tasks/{task_id}{path}")


@pytest.mark.parametrize("verb", ["cancel", "retry"])
def test_another_owner_s_task_is_not_there_to_change(ada: Caller, bob: Caller, admin: Caller, verb: str) -> None:
    task_id = support.put("failed" if verb == "retry" else "pending")
    before = support.snapshot(task_id)
    assert bob.post(f"/tasks/{task_id}/{verb}", status=404)
    assert support.snapshot(task_id) == before
    assert admin.call("POST", f"/tasks/{task_id}/{verb}").status_code in (200, 202)


def test_another_owner_s_things_cannot_be_named(ada: Caller, bob: Caller) -> None:
    task_id = ada.post("/tasks", ECHO)["id"]
    support.sql("INSERT INTO sessions (id, owner, session_type) VALUES ('talk', 'ada', 'chat')")
    strange = bob.post("/tasks", ECHO | {"dependencies": [task_id], "session_id": "talk"}, status=404)
    assert [error["loc"] for error in strange["errors"]] == [["dependencies", 0], ["session_id"]]
    assert ada.post("/tasks", ECHO | {"dependencies": [task_id], "session_id": "talk"})["session_id"] == "talk"


def test_lists_hold_one_s_own_and_an_administrator_s_all(ada: Caller, bob: Caller, admin: Caller) -> None:
    ids = [who.post("/tasks", ECHO)["id"] for who in (ada, bob, admin)]
    for who, sees in ((ada, ids[:1]), (bob, ids[1:2]), (admin, ids)):
        assert sorted(task["id"] for task in who.get("/tasks")["items"]) == sorted(sees)


def test_the_key_is_asked_before_the_body_is_judged(client: FlaskClient, ada: Caller) -> None:
    assert client.post("/api/v1/tasks", data="{").status_code == 401
    assert ada.call("POST", "/agents", {"nonsense": True}).status_code == 403


@pytest.mark.parametrize("path", ["/tasks/%00", "/tasks/%00/events", "/agents/a%00b"])
def test_an_id_that_cannot_be_is_not_there(admin: Caller, path: str) -> None:
    assert admin.get(path, status=404)["code"] == "not_found"


def test_an_id_that_cannot_be_is_not_there_for_a_repeat_either(admin: Caller) -> None:
    assert admin.post("/workflows/%00/rerun", status=404, headers={"Idempotency-Key": "k"})["code"] == "not_found"


def test_no_secret_is_kept_anywhere(admin: Caller) -> None:
    made = admin.post("/keys", {"name": "ci", "scopes": ["read"]}, status=201, headers={"Idempotency-Key": "once"})
    secret = made["key"].split("_", 2)[2]
    with transaction() as db:
        for table in ("api_keys", "idempotency"):
            rows = db.connection().exec_driver_sql(f"SELECT t::text FROM {table} t").scalars().all()
            assert rows
            assert not [row for row in rows if secret in row]
