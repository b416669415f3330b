"""Problems: every failure has the same shape, and none shows what is inside."""

from __future__ import annotations

import logging
from collections.abc import Callable

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy.exc import IntegrityError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from werkzeug.exceptions import RequestEntityTooLarge

from api import access, problems
from app import errors
from app.errors import ClawqError, Invalid, Problem

SECRET = "password=hunter2"


def client_that(fails: Callable[[], Exception]) -> FlaskClient:
    def view() -> str:
        raise fails()

    app = Flask("failing", static_folder=None)
    access.register(app)
    problems.register(app)
    app.add_url_rule("/fail", view_func=view, methods=["POST"])
    return app.test_client()


class Told(Exception):
    """What the driver raises: with Postgres' code if that said anything."""

    pgcode: str | None


def away(pgcode: str | None = None) -> OperationalError:
    told = Told(SECRET)
    told.pgcode = pgcode
    return OperationalError("SELECT 1", {}, told)


@pytest.mark.parametrize(
    ("fails", "status", "code"),
    [
        (errors.Invalid, 422, "invalid"),
        (errors.Unauthorized, 401, "unauthorized"),
        (errors.Forbidden, 403, "forbidden"),
        (errors.NotFound, 404, "not_found"),
        (errors.Conflict, 409, "conflict"),
        (errors.IdempotencyInFlight, 409, "idempotency_in_flight"),
        (errors.IdempotencyMismatch, 422, "idempotency_mismatch"),
        (errors.SettingsError, 500, "internal"),
        (RequestEntityTooLarge, 413, "too_large"),
        (lambda: IntegrityError("INSERT", {}, Exception(SECRET)), 409, "conflict"),
        (away, 503, "unavailable"),
        (PoolTimeout, 503, "unavailable"),
        (lambda: away("57014"), 503, "busy"),
        (lambda: away("55P03"), 503, "busy"),
        (lambda: away("40P01"), 503, "busy"),
        (lambda: RuntimeError(SECRET), 500, "internal"),
    ],
)
def test_every_failure_is_a_problem(fails: Callable[[], Exception], status: int, code: str) -> None:
    response = client_that(fails).post("/fail")
    assert (response.status_code, response.content_type) == (status, "application/problem+json")
    body = response.get_json()
    assert set(body) == {"type", "title", "status", "detail", "code", "errors"}
    assert (body["status"], body["code"], body["type"]) == (status, code, f"/docs#problem-{code}")
    assert body["detail"]
    assert SECRET not in response.text


def test_every_error_of_ours_has_a_title() -> None:
    def leaves(kind: type[ClawqError]) -> set[type[ClawqError]]:
        return {kind}.union(*(leaves(child) for child in kind.__subclasses__() if child.__module__ == "app.errors"))

    refused = {kind.code for kind in leaves(ClawqError) if kind.http_status < 500}
    assert refused <= set(problems.titles())


def test_what_is_wrong_is_named_but_not_without_end() -> None:
    faults = [Problem(("payload", 3, "x" * 5000), "is wrong")] * 1000
    body = client_that(lambda: Invalid(problems=faults)).post("/fail").get_json()
    assert body["errors"][0] == {"loc": ["payload", 3, "x" * 100], "msg": "is wrong"}
    assert len(body["errors"]) == 100


def test_a_surprise_is_logged_with_the_id_that_the_client_got(caplog: pytest.LogCaptureFixture) -> None:
    response = client_that(lambda: RuntimeError(SECRET)).post("/fail")
    request_id = response.headers["X-Request-ID"]
    assert request_id in response.get_json()["detail"]
    (record,) = [r for r in caplog.records if r.name == "api.problems"]
    assert record.levelno == logging.ERROR
    assert record.exc_info
    assert SECRET in str(record.exc_info[1])


def test_clients_are_told_when_to_come_back() -> None:
    assert int(client_that(away).post("/fail").headers["Retry-After"]) > 0
    assert client_that(errors.IdempotencyInFlight).post("/fail").headers["Retry-After"] == "1"


def test_a_missing_key_is_challenged() -> None:
    assert client_that(errors.Unauthorized).post("/fail").headers["WWW-Authenticate"] == 'Bearer realm="clawq"'


def test_unknown_paths_and_methods_are_problems() -> None:
    client = client_that(RuntimeError)
    assert client.get("/nowhere").get_json()["code"] == "not_found"
    refused = client.put("/fail")
    assert refused.get_json()["code"] == "method_not_allowed"
    assert "POST" in refused.headers["Allow"]


def test_a_request_id_is_kept_if_it_is_harmless() -> None:
    client = client_that(errors.NotFound)
    assert client.post("/fail", headers={"X-Request-ID": "abc-1.2_3"}).headers["X-Request-ID"] == "abc-1.2_3"
    for odd in ("a b", "x" * 129, "é", "{}"):
        assert client.post("/fail", headers={"X-Request-ID": odd}).headers["X-Request-ID"] != odd
