"""Gunicorn's settings, for `gunicorn -c python:api.server 'api:create_app()'`; the names are gunicorn's."""

from __future__ import annotations

import contextlib
import os
from typing import Any

#: One process: metrics, news and places to wait are each process' own.
workers = 1
#: They wait, for clients, for Postgres and for tasks to end, and only at times compute.
threads = 64
worker_class = "api.patience.Worker"
#: A query string holds labels, words to search and a cursor; the default of 4 kB does not.
limit_request_line = 8190
#: Nothing but signals controls this server.
control_socket_disable = True


def post_worker_init(_: Any) -> None:
    """Keep this process on one CPU: with Python's lock it can use no more at a time.

    On several, its threads pass the lock from one to another, and an empty request costs twice as much (measured: GET
    /health 1,420 a second on two CPUs, 2,650 on one of them). Everything else may still run on all of them.
    """
    allowed = sorted(os.sched_getaffinity(0))
    # Spread by pid: there may be more such processes on this machine.
    with contextlib.suppress(OSError):  # where a container forbids it, it is only slower
        os.sched_setaffinity(0, {allowed[os.getpid() % len(allowed)]})
