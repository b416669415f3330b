"""Gunicorn's settings of the process that has sockets, which serves `api:create_app(live=True)`."""

from __future__ import annotations

import contextlib
import resource

from api import server
from api.server import control_socket_disable, limit_request_line, post_worker_init, worker_class, workers
from app.settings import settings

__all__ = [
    "control_socket_disable",
    "limit_request_line",
    "post_worker_init",
    "threads",
    "worker_class",
    "worker_connections",
    "workers",
]

#: A thread for each socket, and as many as the API has for everything else: probes always answer.
threads = settings().ws_connections + server.threads
worker_connections = threads + 1000

# Each socket is a descriptor, and many systems give a process a thousand.
with contextlib.suppress(OSError, ValueError):
    _hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (_hard, _hard))
