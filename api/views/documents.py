"""The documents that describe this API: OpenAPI for programs, a page for people."""

from __future__ import annotations

from flask import Response, current_app, json

from api import docs, openapi
from api.endpoints import PREFIX, Section

section = Section("Documents", prefix="")


@section.route("GET", f"{PREFIX}/openapi.json", scope=None, answers={200: None})
def show_openapi() -> Response:
    """Show this API as an OpenAPI document."""
    return Response(json.dumps(openapi.of(current_app), sort_keys=False), content_type="application/json")


@section.route("GET", "/docs", scope=None, answers={200: None}, media_type="text/html")
def show_docs() -> Response:
    """Show this API as a page; it asks nothing of any other host."""
    response = Response(docs.page(openapi.of(current_app)), content_type="text/html; charset=utf-8")
    response.headers["Content-Security-Policy"] = docs.CONTENT_SECURITY_POLICY
    return response
