"""One request, from its bytes to its answer: key, body, repeat, view, commit."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from flask import Response, g, request
from pydantic import BaseModel, ValidationError
from pydantic_core import from_json
from sqlalchemy.orm import Session
from werkzeug.datastructures import MultiDict
from werkzeug.exceptions import (
    BadRequest,
    ClientDisconnected,
    HTTPException,
    RequestEntityTooLarge,
    RequestTimeout,
    UnsupportedMediaType,
)

from api import problems
from api.auth import authenticate, bearer
from api.endpoints import JSON, YAML, Endpoint, Reply
from app import idempotency
from app.db import transaction
from app.documents import parse_yaml
from app.errors import ClawqError, Invalid, NotFound, Problem
from app.keys import Caller
from app.storable import check_storable

#: Bytes of a body that may share a statement with others.
LIGHT = 64 * 1024
#: Bytes of a body in YAML, which takes a hundred times as long to read as JSON.
MAX_YAML_BYTES = 2 * 2**20
_ALIASES = {"application/x-yaml": YAML}
_IDEMPOTENCY_KEY = re.compile(r"[!-~]{1,255}")


def handle(endpoint: Endpoint, **path: str) -> Response:
    """Answer the current request at `endpoint`. `path` holds the variable parts of the URL.

    A body is read for those alone who may send it, and while it arrives no connection is held. What a view wrote is
    committed before its answer leaves.

    Raises:
        ClawqError, HTTPException, SQLAlchemyError: see problems.py.
    """
    if endpoint.scope is None:
        return _response(endpoint.view(**_arguments(endpoint, path, b"")))
    key_text = bearer(request.headers.get("Authorization"))
    fenced = endpoint.shares_db and "Idempotency-Key" not in request.headers
    caller = authenticate(key_text, endpoint.scope, fenced=fenced)
    g.key_id = caller.key_id
    try:
        if any("\0" in part for part in path.values()):
            raise NotFound
        raw = _body(endpoint)
        if not endpoint.takes_db(alone=not fenced or len(raw) > LIGHT):
            return _response(endpoint.view(**_arguments(endpoint, path, raw, caller=caller)))
        with transaction() as db:
            return _work(endpoint, path, raw, db, caller)
    except (ClawqError, HTTPException):
        if fenced:
            # Nothing was written, so nothing has looked at the key; who has none any more learns nothing else.
            authenticate(key_text, endpoint.scope)
        raise


def _body(endpoint: Endpoint) -> bytes:
    try:
        return request.get_data(cache=False) if endpoint.body else b""
    except ClientDisconnected:
        # It is too slow or has gone, and who has gone reads no answer.
        raise RequestTimeout("The body did not arrive in time.") from None


def parse_body(model: type[BaseModel], raw: bytes) -> BaseModel:
    """The body as a model; an empty one counts as `{}`.

    Raises:
        BadRequest: it is not JSON.
        Invalid: it does not fit the model or cannot be stored.
    """
    raw = raw or b"{}"
    try:
        check_storable(from_json(raw, allow_inf_nan=False))
    except ValueError as exc:
        raise BadRequest(f"The body is not valid JSON: {exc}.") from None
    try:
        return model.model_validate_json(raw, strict=True)
    except ValidationError as exc:
        raise problems.invalid(exc) from None


def parse_query(model: type[BaseModel], given: MultiDict[str, str]) -> BaseModel:
    """The query string as a model. Raises Invalid for unknown, repeated or unfit parameters."""
    repeated = [name for name, values in given.lists() if len(values) > 1]
    if repeated:
        raise Invalid("The query is not acceptable.", problems=[Problem((name,), "given twice") for name in repeated])
    values = given.to_dict()
    check_storable(values)
    try:
        return model.model_validate(values)
    except ValidationError as exc:
        raise problems.invalid(exc) from None


def _work(endpoint: Endpoint, path: Mapping[str, str], raw: bytes, db: Session, caller: Caller) -> Response:
    """Run a view in the transaction `db`, or answer what it answered before."""
    repeatable = _repeatable(endpoint, raw, caller)
    answer = idempotency.recall(db, repeatable) if repeatable else None
    if answer:
        return _replayed(answer)
    given = endpoint.view(**_arguments(endpoint, path, raw, db=db, caller=caller))
    response = _response(given)
    if repeatable and isinstance(given, Reply):
        kept = given.remembered or given.body
        body = kept.model_dump(mode="json") if kept else {}
        idempotency.remember(db, repeatable, idempotency.Answer(given.http_status, body, given.location))
    return response


def _repeatable(endpoint: Endpoint, raw: bytes, caller: Caller) -> idempotency.Request | None:
    key = request.headers.get("Idempotency-Key")
    if key is None or not endpoint.creates:
        return None
    if not _IDEMPOTENCY_KEY.fullmatch(key):
        fault = Problem(("Idempotency-Key",), "must be 1 to 255 visible ASCII characters")
        raise Invalid("The Idempotency-Key is not acceptable.", problems=[fault])
    return idempotency.Request(caller.owner, f"{request.method} {request.path}", key, raw)


def _replayed(answer: idempotency.Answer) -> Response:
    response = Response(json.dumps(answer.body), answer.http_status, content_type="application/json")
    response.headers["Idempotency-Replayed"] = "true"
    if answer.location:
        response.headers["Location"] = answer.location
    return response


def _arguments(endpoint: Endpoint, path: Mapping[str, str], raw: bytes, **given: Any) -> dict[str, Any]:
    arguments = dict(path) | {name: value for name, value in given.items() if name in endpoint.takes}
    if endpoint.body:
        _check_media_type(endpoint, raw)
        arguments["body"] = parse_body(endpoint.body, _json_of_yaml(raw) if raw and not request.is_json else raw)
    if endpoint.query:
        arguments["query"] = parse_query(endpoint.query, request.args)
    return arguments


def _check_media_type(endpoint: Endpoint, raw: bytes) -> None:
    given = JSON if request.is_json else _ALIASES.get(request.mimetype, request.mimetype)
    if raw and given not in endpoint.accepts:
        raise UnsupportedMediaType(f"Send the body as {' or '.join(endpoint.accepts)}.")
    if request.headers.get("Content-Encoding", "identity") != "identity":
        raise UnsupportedMediaType("Send the body uncompressed.")


def _json_of_yaml(raw: bytes) -> bytes:
    # What is said in YAML is checked as JSON is, by the same code.
    if len(raw) > MAX_YAML_BYTES:
        raise RequestEntityTooLarge
    return json.dumps(parse_yaml(raw)).encode()


def _response(given: Reply | Response) -> Response:
    if isinstance(given, Response):
        return given
    if given.body is None:
        return Response(status=given.http_status, headers=given.headers)
    response = Response(given.body.model_dump_json(), given.http_status, given.headers, content_type="application/json")
    if given.location:
        response.headers["Location"] = given.location
    return response
