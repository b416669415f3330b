"""The OpenAPI document, made from the endpoints' declarations."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Sequence
from http import HTTPStatus
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from flask import Flask
from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode, models_json_schema

from api import problems
from api.endpoints import Endpoint
from app.tasks.types import TASK_TYPES

Document = dict[str, Any]

_REF = "#/components/schemas/{model}"
_EXTENSION = "clawq.openapi"
_ABOUT = (
    "A distributed task queue. Tasks are accepted into Postgres, done by Celery workers, and every step of them can be "
    "followed. Times are RFC 3339 in UTC; failures are problem+json (RFC 9457); every answer carries X-Request-ID."
)
_IDEMPOTENCY_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "A repeat with the same key and body within a day gets the first answer and creates nothing.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"},
}


def register(app: Flask, endpoints: Sequence[Endpoint]) -> None:
    """Make the document of `app` and keep it with it."""
    app.extensions[_EXTENSION] = document(endpoints)


def of(app: Flask) -> Document:
    """The document of `app`."""
    found: Document = app.extensions[_EXTENSION]
    return found


def document(endpoints: Sequence[Endpoint]) -> Document:
    """The OpenAPI document of these endpoints."""
    refs, schemas = _schemas(endpoints)
    paths: Document = {}
    for endpoint in endpoints:
        path = re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", endpoint.rule)
        paths.setdefault(path, {})[endpoint.method.lower()] = _operation(endpoint, refs)
    return {
        "openapi": "3.1.0",
        "info": {"title": "clawq", "version": _version(), "description": _ABOUT},
        "tags": [{"name": tag} for tag in dict.fromkeys(e.tag for e in endpoints)],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "responses": {"Problem": _problem_response("A failure.")},
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "clawq_<id>_<secret>"},
            },
        },
    }


def _version() -> str:
    try:
        return version("clawq")
    except PackageNotFoundError:
        return "0"


def _schemas(endpoints: Iterable[Endpoint]) -> tuple[dict[type[BaseModel], Document], Document]:
    read = {e.body for e in endpoints} | {e.query for e in endpoints} | {t.payload for t in TASK_TYPES.values()}
    written = {model for e in endpoints for model in e.answers.values()} | {problems.ProblemOut}
    pairs: list[tuple[type[BaseModel], JsonSchemaMode]] = []
    pairs += [(model, "validation") for model in sorted(filter(None, read), key=lambda m: m.__name__)]
    pairs += [(model, "serialization") for model in sorted(filter(None, written), key=lambda m: m.__name__)]
    refs, definitions = models_json_schema(pairs, ref_template=_REF)
    schemas = definitions["$defs"]
    return {model: refs[model, mode] for model, mode in pairs}, dict(sorted(schemas.items()))


def _operation(endpoint: Endpoint, refs: dict[type[BaseModel], Document]) -> Document:
    summary, _, rest = (inspect.getdoc(endpoint.view) or "").partition("\n\n")
    scope = f"Needs the scope `{endpoint.scope}`." if endpoint.scope else "Open: needs no key."
    operation: Document = {
        "operationId": endpoint.name,
        "tags": [endpoint.tag],
        "summary": summary.rstrip("."),
        "description": "\n\n".join(filter(None, (" ".join(rest.split()), scope))),
        "security": [{"bearer": []}] if endpoint.scope else [],
        "parameters": _parameters(endpoint),
        "responses": _responses(endpoint, refs),
    }
    if endpoint.scope:
        operation["x-scope"] = endpoint.scope
    if endpoint.body:
        operation["requestBody"] = {
            "required": any(f.is_required() for f in endpoint.body.model_fields.values()),
            "content": {media_type: {"schema": refs[endpoint.body]} for media_type in endpoint.accepts},
        }
    return operation


def _parameters(endpoint: Endpoint) -> list[Document]:
    found: list[Document] = [
        {"name": part, "in": "path", "required": True, "schema": {"type": "string"}} for part in endpoint.path_parts
    ]
    if endpoint.query:
        schema = endpoint.query.model_json_schema(ref_template=_REF)
        for name, field in schema["properties"].items():
            shape = {key: value for key, value in field.items() if key not in ("title", "description")}
            about = {"description": field["description"]} if "description" in field else {}
            found.append({"name": name, "in": "query", "required": False, **about, "schema": shape})
    if endpoint.creates:
        found.append(_IDEMPOTENCY_KEY)
    return found


def _responses(endpoint: Endpoint, refs: dict[type[BaseModel], Document]) -> Document:
    found: Document = {}
    for status, model in endpoint.answers.items():
        response: Document = {"description": HTTPStatus(status).phrase}
        if status != HTTPStatus.NO_CONTENT:
            response["content"] = {endpoint.media_type: {"schema": refs[model]} if model else {}}
        if endpoint.creates and model and "id" in model.model_fields:
            response["headers"] = {"Location": {"schema": {"type": "string"}, "description": "Path of it."}}
        found[str(status)] = response
    for status, why in _failures(endpoint).items():
        found.setdefault(str(status), _problem_response(why))
    found["default"] = {"$ref": "#/components/responses/Problem"}
    return found


def _failures(endpoint: Endpoint) -> dict[int, str]:
    found: dict[int, str] = {}
    if endpoint.scope:
        found |= {401: "No valid key.", 403: f"The key lacks the scope {endpoint.scope}."}
    if endpoint.path_parts:
        found[404] = "There is no such thing, or it belongs to someone else."
    elif endpoint.refers:
        found[404] = "Something that it refers to is not there, or belongs to someone else."
    if endpoint.body:
        found |= {400: "The body is not JSON.", 413: "The body is too large."}
        found[415] = f"The body is not {' or '.join(endpoint.accepts)} by its type."
        found[408] = "The body did not arrive in time."
    if endpoint.body or endpoint.query:
        found[422] = "A value is not acceptable; `errors` says which and why."
    conflicts = [endpoint.conflicts] if endpoint.conflicts else []
    if endpoint.creates:
        conflicts.append("A request with this Idempotency-Key is still being handled.")
    if conflicts:
        found[409] = " ".join(conflicts)
    if endpoint.scope:
        found[503] = "Postgres does not answer or is too busy; try again."
    return dict(sorted(found.items()))


def _problem_response(why: str) -> Document:
    schema = {"$ref": _REF.format(model=problems.ProblemOut.__name__)}
    return {"description": why, "content": {problems.MEDIA_TYPE: {"schema": schema}}}
