"""Every route needs a key or is on the open list, and the OpenAPI document says the same as the router."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from flask import Flask
from werkzeug.routing import Rule

from api import create_app
from api.auth import OPEN

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


@pytest.fixture
def app(environment: pytest.MonkeyPatch) -> Flask:
    """The application without any service behind it."""
    return create_app()


def routes(app: Flask) -> Iterator[tuple[str, Rule]]:
    """Every (method, rule) that the router answers."""
    for rule in app.url_map.iter_rules():
        for method in sorted(rule.methods or ()):
            yield method, rule


def template(rule: Rule) -> str:
    """A rule as OpenAPI writes it."""
    return re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule)


def test_every_route_needs_a_key_or_is_on_the_open_list(app: Flask) -> None:
    client = app.test_client()
    for method, rule in routes(app):
        if rule.rule in OPEN:
            continue
        path = re.sub(r"<\w+>", "x", rule.rule)
        # Refused before anything else: there is not even a database here.
        refused = client.open(path, method=method)
        assert refused.status_code == 401, f"{method} {rule.rule}"
        assert refused.headers["WWW-Authenticate"].startswith("Bearer")


def test_the_open_list_holds_no_path_that_is_gone(app: Flask) -> None:
    assert set(OPEN) <= {rule.rule for rule in app.url_map.iter_rules()}


def test_the_document_lists_the_routes_and_nothing_else(app: Flask) -> None:
    document = app.test_client().get("/api/v1/openapi.json").get_json()
    documented = {(method.upper(), path) for path, item in document["paths"].items() for method in item}
    assert documented == {(method, template(rule)) for method, rule in routes(app) if method != "HEAD"}


def test_the_document_says_who_needs_a_key(app: Flask) -> None:
    document = app.test_client().get("/api/v1/openapi.json").get_json()
    for path, item in document["paths"].items():
        for operation in item.values():
            assert (operation["security"] == []) == (path in OPEN), path
            assert ("x-scope" in operation) == (path not in OPEN), path


def test_every_route_documents_its_success_and_its_failures(app: Flask) -> None:
    document = app.test_client().get("/api/v1/openapi.json").get_json()
    for path, item in document["paths"].items():
        for method, operation in item.items():
            assert operation["summary"], path
            for status, response in operation["responses"].items():
                where = f"{method} {path} {status}"
                if status == "default":
                    continue
                media = list(response.get("content", {}))
                if int(status) >= 400 and path != "/ready":
                    assert media == ["application/problem+json"], where
                elif path.endswith("/artifacts/{name}"):
                    assert media == ["application/octet-stream"], where
                elif path.endswith("/events/stream") and status == "200":
                    assert media == ["text/event-stream"], where
                elif status != "204" and path not in ("/metrics", "/docs", "/api/v1/openapi.json"):
                    assert response["content"]["application/json"]["schema"]["$ref"], where


def test_where_a_body_names_other_things_the_document_says_what_is_answered_if_they_are_not_there(app: Flask) -> None:
    document = app.test_client().get("/api/v1/openapi.json").get_json()
    for path in ("/tasks", "/tasks/batch", "/workflows", "/memories", "/memories/batch"):
        assert "refers to" in document["paths"]["/api/v1" + path]["post"]["responses"]["404"]["description"], path


def test_every_reference_in_the_document_leads_somewhere(app: Flask) -> None:
    document = app.test_client().get("/api/v1/openapi.json").get_json()
    references = set(_references(document))
    assert references
    for reference in references:
        place = document
        for part in reference.removeprefix("#/").split("/"):
            place = place[part]


def test_the_documentation_page_asks_nobody_else(app: Flask) -> None:
    response = app.test_client().get("/docs")
    assert "default-src 'none'" in response.headers["Content-Security-Policy"]
    for tag in ("<script", "<link", "<img", "@import", "url("):
        assert tag not in response.text
    assert not re.findall(r'(?:src|href)="(?:https?:)?//', response.text)
    for rule in app.url_map.iter_rules():
        assert template(rule) in response.text


def test_other_sites_get_no_leave_to_call(app: Flask) -> None:
    response = app.test_client().get("/health", headers={"Origin": "https://elsewhere.example"})
    assert not [name for name in response.headers.keys() if name.startswith("Access-Control")]  # noqa: SIM118
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert app.test_client().options("/api/v1/tasks").status_code == 405


def _references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for item in value.values():
            yield from _references(item)
    elif isinstance(value, list):
        for item in value:
            yield from _references(item)
