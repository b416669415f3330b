"""The application factory."""

from __future__ import annotations

from functools import partial

from flask import Flask
from werkzeug.routing import PathConverter

from api import access, openapi, problems
from api.endpoints import Endpoint
from api.live import route
from api.requests import handle
from api.views import (
    agents,
    artifacts,
    documents,
    groupchats,
    keys,
    memories,
    memory_index,
    messages,
    operations,
    sessions,
    streams,
    task,
    tasks,
    workflows,
)
from app import logs

#: The largest body: a batch of a thousand tasks, or one task with all the files a program may be given.
MAX_BODY_BYTES = 16 * 2**20

_SECTIONS = (
    tasks.section,
    task.section,
    artifacts.section,
    workflows.section,
    memories.section,
    memory_index.section,
    streams.section,
    agents.section,
    sessions.section,
    groupchats.section,
    messages.section,
    keys.section,
    operations.section,
    operations.probes,
    documents.section,
)


class _AnyPath(PathConverter):
    """A path that may hold line ends too, as names of files do."""

    regex = "[^/](?s:.*?)"


def create_app(*, live: bool = False) -> Flask:
    """A Flask application. Reaches for Postgres and Redis only when a request needs them.

    Args:
        live: whether sockets may be opened; each holds a thread, so their process has many (live/server.py).

    Raises:
        SettingsError: the environment is not usable.
    """
    logs.configure()
    app = Flask("api", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY_BYTES
    app.json.sort_keys = False  # type: ignore[attr-defined]
    # A redirect would send the key to a path that nobody meant.
    app.url_map.merge_slashes = False
    app.url_map.converters["path"] = _AnyPath
    access.register(app)
    problems.register(app)
    for endpoint in (e for section in _SECTIONS for e in section.endpoints):
        _add(app, endpoint)
    if live:
        route.register(app)
    openapi.register(app, [e for section in _SECTIONS for e in section.endpoints])
    return app


def _add(app: Flask, endpoint: Endpoint) -> None:
    app.add_url_rule(
        endpoint.rule,
        endpoint=endpoint.name,
        view_func=partial(handle, endpoint),
        methods=[endpoint.method],
        provide_automatic_options=False,
    )
