"""What every request has in common: media types, sizes, repeats, log lines, metrics, and services that are away."""

from __future__ import annotations

import io
import json
import logging
import socket
import time
from collections.abc import Callable
from typing import Any

import pytest
from flask.testing import FlaskClient
from prometheus_client import REGISTRY
from werkzeug.test import TestResponse

from app import db as app_db
from app import idempotency, publisher
from app.settings import settings
from tests import support
from tests.integration.api.conftest import Caller

ECHO = {"task_type": "echo", "payload": {"n": 1}}


def once(key: str) -> dict[str, dict[str, str]]:
    return {"headers": {"Idempotency-Key": key}}


def test_the_body_must_be_json_by_its_type_and_by_its_text(ada: Caller) -> None:
    def send(data: bytes, **headers: str) -> TestResponse:
        return ada.call("POST", "/tasks", data=data, headers=headers)

    good = json.dumps(ECHO).encode()
    assert send(good, **{"Content-Type": "application/json; charset=utf-8"}).status_code == 202
    assert send(good, **{"Content-Type": "text/plain"}).get_json()["code"] == "unsupported_media_type"
    assert send(good).status_code == 415
    zipped = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    assert send(good, **zipped).status_code == 415
    broken = send(b'{"task_type": ', **{"Content-Type": "application/json"})
    assert (broken.status_code, broken.get_json()["code"]) == (400, "malformed")
    assert send(b"").status_code == 422


def test_a_body_that_is_too_large_is_refused(ada: Caller) -> None:
    def send(size: int) -> TestResponse:
        body = json.dumps(ECHO).encode().ljust(size)
        return ada.call("POST", "/tasks", data=body, headers={"Content-Type": "application/json"})

    assert send(16 * 2**20).status_code == 202
    refused = send(16 * 2**20 + 1)
    assert (refused.status_code, refused.get_json()["code"]) == (413, "too_large")


@pytest.mark.parametrize("path", ["/tasks", "/tasks/batch", "/agents"])
def test_a_repeat_is_answered_the_same_and_does_nothing(admin: Caller, path: str) -> None:
    agent = {"name": "scout", "role": "finder", "goal": "Find.", "agent_type": "researcher"}
    body: Any = {"/tasks": ECHO, "/tasks/batch": {"tasks": [ECHO]}, "/agents": agent}[path]
    first, again = (admin.call("POST", path, body, **once("order-66")) for _ in range(2))
    assert again.status_code == first.status_code < 300
    assert again.get_json() == first.get_json()
    assert again.headers.get("Location") == first.headers.get("Location")
    assert "Idempotency-Replayed" not in first.headers
    assert again.headers["Idempotency-Replayed"] == "true"
    assert len(admin.get(path.removesuffix("/batch"))["items"]) == 1


def test_a_repeat_with_another_body_is_refused(ada: Caller) -> None:
    ada.post("/tasks", ECHO, **once("k"))
    problem = ada.post("/tasks", ECHO | {"priority": "low"}, status=422, **once("k"))
    assert problem["code"] == "idempotency_mismatch"


def test_keys_of_other_owners_and_paths_do_not_meet(ada: Caller, bob: Caller) -> None:
    first = ada.post("/tasks", ECHO, **once("k"))
    assert bob.post("/tasks", ECHO, **once("k"))["id"] != first["id"]
    assert ada.post("/tasks/batch", {"tasks": [ECHO]}, **once("k"))["items"]


def test_a_refused_request_may_be_mended_under_the_same_key(ada: Caller) -> None:
    ada.post("/tasks", ECHO | {"task_type": "cobol"}, status=422, **once("k"))
    assert ada.post("/tasks", ECHO, **once("k"))["status"] == "pending"


def test_a_repeat_while_the_first_is_handled_is_told_to_wait(ada: Caller) -> None:
    raw = json.dumps(ECHO).encode()
    with app_db.transaction() as db:
        assert idempotency.recall(db, idempotency.Request("ada", "POST /api/v1/tasks", "k", raw)) is None
        response = ada.call("POST", "/tasks", ECHO, **once("k"))
    assert (response.status_code, response.get_json()["code"]) == (409, "idempotency_in_flight")
    assert response.headers["Retry-After"] == "1"


def test_many_at_once_under_one_key_make_one_task(ada: Caller) -> None:
    responses = support.together(*[lambda: ada.call("POST", "/tasks", ECHO, **once("k"))] * 8)
    assert {r.status_code for r in responses} <= {202, 409}
    assert len({r.get_json()["id"] for r in responses if r.status_code == 202}) == 1
    assert support.scalar("SELECT count(*) FROM tasks") == 1


@pytest.mark.parametrize("key", ["", "x" * 256, "a b", "é"])
def test_an_odd_idempotency_key_is_refused(ada: Caller, key: str) -> None:
    assert ada.post("/tasks", ECHO, status=422, **once(key))["errors"][0]["loc"] == ["Idempotency-Key"]


def test_a_repeated_key_is_made_once_and_shown_once(admin: Caller) -> None:
    body = {"name": "ci", "scopes": ["submit"]}
    first = admin.post("/keys", body, status=201, **once("k"))
    again = admin.post("/keys", body, status=201, **once("k"))
    assert first["key"].startswith(f"clawq_{first['id']}_")
    assert again == first | {"key": None}


def test_every_request_leaves_one_line_without_secrets(ada: Caller, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        task_id = ada.post("/tasks", ECHO)["id"]
        ada.get(f"/tasks/{task_id}")
        ada.get("/nowhere", status=404)
    lines = [r for r in caplog.records if r.name == "api.access"]
    fields = [(r.method, r.route, r.status) for r in lines]  # type: ignore[attr-defined]
    assert fields == [("POST", "/api/v1/tasks", 202), ("GET", "/api/v1/tasks/<task_id>", 200), ("GET", "(none)", 404)]
    assert lines[0].key_id == ada.key_text.split("_")[1]  # type: ignore[attr-defined]
    assert lines[0].ms > 0  # type: ignore[attr-defined]
    secret = ada.key_text.split("_", 2)[2]
    assert not [r for r in caplog.records if secret in str(vars(r))]


def test_requests_are_counted_by_pattern(client: FlaskClient, ada: Caller) -> None:
    def counted(**labels: str) -> float:
        return REGISTRY.get_sample_value("http_requests_total", labels) or 0

    shown = {"method": "GET", "route": "/api/v1/tasks/<task_id>", "status": "404"}
    odd = {"method": "OTHER", "route": "(none)", "status": "405"}
    before = counted(**shown), counted(**odd)
    ada.get("/tasks/nobody", status=404)
    client.open("/api/v1/tasks", method="BREW")
    assert (counted(**shown), counted(**odd)) == (before[0] + 1, before[1] + 1)


def test_without_redis_tasks_are_accepted_all_the_same(
    clawq: pytest.MonkeyPatch, ada: Caller, client: FlaskClient
) -> None:
    clawq.setenv("REDIS_URL", "redis://127.0.0.1:1/0")
    for cached in (settings, publisher.client, publisher._connections):
        cached.cache_clear()
    task_id = ada.post("/tasks", ECHO)["id"]
    assert support.status(task_id) == "pending"
    ready = client.get("/ready")
    assert ready.status_code == 200
    assert ready.get_json()["checks"]["redis"]["ok"] is False


def test_a_chroma_that_hangs_makes_nothing_unready_and_keeps_no_prober_waiting(
    clawq: pytest.MonkeyPatch, client: FlaskClient
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        clawq.setenv("VECTOR_DB_URL", f"http://127.0.0.1:{silent.getsockname()[1]}")
        settings.cache_clear()
        started = time.monotonic()
        ready = client.get("/ready")
    assert time.monotonic() - started < 1
    assert ready.status_code == 200
    assert ready.get_json()["checks"]["chroma"] == {
        "ok": False,
        "required": False,
        "detail": "no answer (ReadTimeout)",
    }


def test_without_postgres_every_answer_says_when_to_come_back(
    clawq: pytest.MonkeyPatch, ada: Caller, client: FlaskClient
) -> None:
    clawq.setenv("DATABASE_URL", "postgresql://nobody:hunter2@127.0.0.1:1/none")
    app_db.engine().dispose()
    for cached in (settings, app_db.engine):
        cached.cache_clear()
    response = ada.call("POST", "/tasks", ECHO)
    assert (response.status_code, response.get_json()["code"]) == (503, "unavailable")
    assert int(response.headers["Retry-After"]) > 0
    assert client.get("/metrics").status_code == 503
    assert client.get("/health").status_code == 200
    ready = client.get("/ready")
    assert (ready.status_code, ready.get_json()["status"]) == (503, "not_ready")
    for text in (response.text, ready.text):
        assert "hunter2" not in text
        assert "127.0.0.1" not in text


def test_no_connection_is_held_while_a_body_arrives(ada: Caller) -> None:
    held = []

    class Slow(io.BytesIO):
        """A body whose sender may dawdle."""

        def readinto(self, buffer: Any) -> int:
            held.append(app_db.engine().pool.checkedout())  # type: ignore[attr-defined]
            return super().readinto(buffer)

        def read(self, size: int | None = -1) -> bytes:
            held.append(app_db.engine().pool.checkedout())  # type: ignore[attr-defined]
            return super().read(size)

    body = Slow(json.dumps(ECHO).encode())
    response = ada.call("POST", "/tasks", input_stream=body, headers={"Content-Type": "application/json"})
    assert response.status_code == 202
    assert set(held) == {0}


@pytest.mark.parametrize("scopes", [[], ["read"]])
def test_the_body_of_who_may_not_send_it_is_not_read(
    caller: Callable[..., Caller], client: FlaskClient, scopes: list[str]
) -> None:
    class Untouched(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            raise AssertionError("the body was read")

        readinto = read  # type: ignore[assignment]

    key_text = caller("eve", *scopes).key_text if scopes else f"clawq_{'0' * 32}_{'x' * 43}"
    headers = {"Authorization": f"Bearer {key_text}", "Content-Type": "application/json"}
    refused = client.post("/api/v1/tasks", input_stream=Untouched(b"{}"), headers=headers)
    assert refused.status_code == (403 if scopes else 401)
