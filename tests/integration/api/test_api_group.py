"""Agents, keys, queues, workers and probes over HTTP."""

from __future__ import annotations

from typing import Any

import pytest
from flask.testing import FlaskClient
from prometheus_client.parser import text_string_to_metric_families

from tests import support
from tests.integration.api.conftest import Caller

AGENT: dict[str, Any] = {"name": "scout", "role": "finder", "goal": "Find it.", "agent_type": "researcher"}


def test_an_agent_is_made_shown_changed_and_removed(admin: Caller, ada: Caller) -> None:
    response = admin.call("POST", "/agents", AGENT | {"configuration": {"max_running": 2}})
    agent = response.get_json()
    assert response.status_code == 201
    assert response.headers["Location"] == f"/api/v1/agents/{agent['id']}"
    assert (agent["status"], agent["configuration"], agent["backstory"]) == ("active", {"max_running": 2}, None)
    path = f"/agents/{agent['id']}"
    assert ada.get(path) == agent
    changed = admin.call("PATCH", path, {"status": "inactive", "configuration": {"task_types": ["echo"]}}).get_json()
    assert (changed["status"], changed["configuration"], changed["name"]) == (
        "inactive",
        {"task_types": ["echo"]},
        "scout",
    )
    assert ada.get("/agents?status=inactive&agent_type=researcher")["items"] == [changed]
    assert ada.get("/agents?status=active")["items"] == []
    assert admin.call("PATCH", path, {"configuration": None}).get_json()["configuration"] is None
    assert admin.call("DELETE", path).status_code == 204
    assert ada.get(path, status=404)
    assert admin.call("PATCH", path, {}).status_code == 404
    assert admin.call("DELETE", path).status_code == 404


def test_what_an_agent_says_of_sandboxes_is_kept_as_it_was_given(admin: Caller, ada: Caller) -> None:
    sandbox = {"images": {"python": "science:2"}, "runtime": "runsc", "limits": {"memory_mb": 128}}
    agent = admin.post("/agents", AGENT | {"configuration": {"sandbox": sandbox}}, status=201)
    assert agent["configuration"] == {"sandbox": sandbox}
    wrong = admin.call("PATCH", f"/agents/{agent['id']}", {"configuration": {"sandbox": {"images": {"echo": "x"}}}})
    assert wrong.status_code == 422
    assert "javascript" in wrong.get_json()["errors"][0]["msg"]


def test_a_role_s_agent_takes_a_policy_but_no_status(admin: Caller) -> None:
    support.employ("execution")
    patched = admin.call("PATCH", "/agents/execution_agent", {"configuration": {"max_running": 0}})
    assert patched.get_json()["configuration"] == {"max_running": 0}
    assert admin.call("PATCH", "/agents/execution_agent", {"status": "inactive"}).get_json()["code"] == "conflict"
    assert admin.call("DELETE", "/agents/execution_agent").status_code == 409


def test_an_agent_with_tasks_stays(admin: Caller, ada: Caller) -> None:
    agent_id = admin.post("/agents", AGENT, status=201)["id"]
    ada.post("/tasks", {"task_type": "echo", "payload": {}, "assigned_to": agent_id})
    assert admin.call("DELETE", f"/agents/{agent_id}").status_code == 409


def test_a_key_works_until_it_is_revoked(admin: Caller, ada: Caller) -> None:
    response = admin.call("POST", "/keys", {"name": "ci", "scopes": ["submit", "read"], "owner": "ada"})
    made = response.get_json()
    assert response.status_code == 201
    assert response.headers["Location"] == f"/api/v1/keys/{made['id']}"
    task_id = ada.post("/tasks", {"task_type": "echo", "payload": {}})["id"]
    ada.key_text = made["key"]
    assert ada.get(f"/tasks/{task_id}")
    shown = admin.get(f"/keys/{made['id']}")
    assert shown == {name: value for name, value in made.items() if name != "key"}
    assert shown in admin.get("/keys")["items"]
    assert admin.call("DELETE", f"/keys/{made['id']}").status_code == 204
    assert ada.get(f"/tasks/{task_id}", status=401)
    assert admin.get(f"/keys/{made['id']}")["revoked_at"]
    assert admin.get("/keys/nobody", status=404)


def test_a_key_is_its_maker_s_own_unless_said_otherwise(admin: Caller) -> None:
    assert admin.post("/keys", {"name": "ci", "scopes": ["read"]}, status=201)["owner"] == "root"


def test_queues_say_what_they_hold(ada: Caller) -> None:
    support.put("running")
    support.put("queued")
    support.put("pending")
    queues = {queue["queue"]: queue for queue in ada.get("/queues")["items"]}
    assert set(queues) == {"gateway", "coordinator", "execution", "memory"}
    held = queues["execution"]
    assert (held["pending"], held["queued"], held["running"], held["workers"]) == (1, 1, 1, 1)
    assert held["oldest_queued_s"] >= 0
    assert queues["memory"]["oldest_queued_s"] is None


def test_workers_are_listed(ada: Caller) -> None:
    support.employ("execution")
    (worker,) = ada.get("/workers")["items"]
    assert (worker["name"], worker["agent_id"], worker["role"]) == (
        "execution_agent@test",
        "execution_agent",
        "execution",
    )


def test_ready_is_ready(memory: pytest.MonkeyPatch, client: FlaskClient) -> None:
    response = client.get("/ready")
    assert response.status_code == 200
    assert response.get_json()["status"] == "ready"
    assert {name: check["ok"] for name, check in response.get_json()["checks"].items()} == {
        "postgres": True,
        "redis": True,
        "chroma": True,
    }


@pytest.mark.parametrize("revision", ["UPDATE alembic_version SET version_num = 'old'", "DELETE FROM alembic_version"])
def test_an_old_schema_is_not_ready(client: FlaskClient, revision: str) -> None:
    newest = support.scalar("SELECT version_num FROM alembic_version")
    try:
        support.sql(revision)
        response = client.get("/ready")
    finally:
        support.sql("DELETE FROM alembic_version")
        support.sql("INSERT INTO alembic_version VALUES (:newest)", newest=newest)
    assert response.status_code == 503
    assert "clawq migrate" in response.get_json()["checks"]["postgres"]["detail"]


def test_metrics_hold_the_process_and_the_database(client: FlaskClient) -> None:
    support.put("queued")
    response = client.get("/metrics")
    assert response.status_code == 200
    samples = {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(response.text)
        for sample in family.samples
    }
    names = {name for name, _ in samples}
    assert {"process_resident_memory_bytes", "process_cpu_seconds_total", "http_requests_total"} <= names
    assert "http_request_duration_seconds_count" in names
    assert samples["tasks", (("queue", "execution"), ("status", "queued"))] == 1
    assert samples["agent_status", (("agent_type", "execution"), ("status", "active"))] == 1
