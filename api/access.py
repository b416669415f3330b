"""Around every request: its id, one access line, its metrics, and the headers that keep browsers careful."""

from __future__ import annotations

import logging
import re
import time
import uuid

import structlog
from flask import Flask, Response, g, request

from app import metrics

log = logging.getLogger(__name__)

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
#: Methods are the client's own text; a metric must not grow a series for each.
_METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    # Answers hold tenants' data, and once a key.
    "Cache-Control": "no-store",
}


def register(app: Flask) -> None:
    """Hook into every request of `app`."""
    app.before_request(_begin)
    app.after_request(_end)


def _begin() -> None:
    g.started = time.perf_counter()
    given = request.headers.get("X-Request-ID", "")
    g.request_id = given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
    structlog.contextvars.clear_contextvars()
    structlog.contextvars.bind_contextvars(request_id=g.request_id)


def _end(response: Response) -> Response:
    seconds = time.perf_counter() - g.started
    method = request.method if request.method in _METHODS else "OTHER"
    # The pattern, not the path: an id for each series would drown the metric, and a path may hold anything.
    route = request.url_rule.rule if request.url_rule else "(none)"
    metrics.HTTP_REQUESTS.labels(method=method, route=route, status=response.status_code).inc()
    if not (request.url_rule and request.url_rule.websocket):
        metrics.HTTP_SECONDS.labels(method=method, route=route).observe(seconds)
    _log(method, route, response.status_code, seconds)
    response.headers["X-Request-ID"] = g.request_id
    for name, value in _HEADERS.items():
        response.headers.setdefault(name, value)
    return response


def _log(method: str, route: str, status: int, seconds: float) -> None:
    fields = {"method": method, "route": route, "status": status, "ms": round(seconds * 1000, 1)}
    if key_id := g.get("key_id"):
        fields["key_id"] = key_id
    if code := g.get("problem_code"):
        fields["code"] = code
    level = logging.ERROR if status >= 500 else logging.WARNING if status in (401, 403) else logging.INFO
    log.log(level, "%s %s %d", method, route, status, extra=fields)
