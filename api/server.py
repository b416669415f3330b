"""Gunicorn's settings, for `gunicorn -c python:api.server 'api:create_app()'`; the names are gunicorn's."""

from __future__ import annotations

#: One process: metrics, news and places to wait are each process' own.
workers = 1
#: They wait, for clients, for Postgres and for tasks to end, and only at times compute.
threads = 64
worker_class = "api.patience.Worker"
#: A query string holds labels, words to search and a cursor; the default of 4 kB does not.
limit_request_line = 8190
#: Nothing but signals controls this server.
control_socket_disable = True
