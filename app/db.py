"""Database: one engine a process, transactions at the edge, and what has to wait until they committed.

A request or a Celery job opens `transaction()`; the verbs in app/ take `db` first and never commit.
"""

from __future__ import annotations

import logging
import select
import time
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import psycopg2
import psycopg2.extensions
from sqlalchemy import Engine, create_engine
from sqlalchemy.orm import Session

from app.settings import settings

log = logging.getLogger(__name__)

_AFTER_COMMIT = "clawq.after_commit"

#: Bounds that Postgres keeps. The last one frees rows that a process holds which was stopped in a transaction.
_BOUNDS = "-c statement_timeout=10s -c lock_timeout=5s -c idle_in_transaction_session_timeout=10s"
#: Seconds until we stop waiting for a Postgres that keeps none: one that is stopped, or behind a broken network.
_ANSWER_S = 12.0
#: JIT takes half a second to compile a statement that runs for three milliseconds (measured on admission).
_OPTIONS = f"{_BOUNDS} -c jit=off -c timezone=UTC"


@cache
def engine() -> Engine:
    """The connection pool of this process, opened at first use."""
    psycopg2.extensions.set_wait_callback(_wait)
    return create_engine(
        settings().require_database_url(),
        # A worker's slots, its heartbeat and its probes; each holds a connection only for a statement or two.
        pool_size=10,
        max_overflow=30,
        pool_timeout=10,
        # A restarted Postgres would otherwise fail the first use of every pooled connection.
        pool_pre_ping=True,
        connect_args={
            "options": _OPTIONS,
            "application_name": "clawq",
        },
    )


def _wait(connection: Any) -> None:
    """Wait for an answer of libpq, but not for ever: every statement and every connect comes by here.

    Raises:
        psycopg2.OperationalError: Postgres did not answer in time; psycopg2 closes the connection then.
    """
    deadline = time.monotonic() + _ANSWER_S
    waits = {psycopg2.extensions.POLL_READ: select.POLLIN, psycopg2.extensions.POLL_WRITE: select.POLLOUT}
    while (state := connection.poll()) != psycopg2.extensions.POLL_OK:
        poller = select.poll()
        poller.register(connection.fileno(), waits[state])
        if not poller.poll(max(0.0, deadline - time.monotonic()) * 1000):
            raise psycopg2.OperationalError(f"no answer from Postgres within {_ANSWER_S:.0f} s")


@contextmanager
def transaction() -> Iterator[Session]:
    """A transaction that commits at the end of the block, then runs what `after_commit` was given.

    Raises:
        Whatever the block raises, after a rollback; nothing registered is run then.
    """
    with Session(engine(), expire_on_commit=False) as db:
        with db.begin():
            yield db
        callbacks: dict[Hashable, Callable[[], None]] = db.info.pop(_AFTER_COMMIT, {})
    for callback in callbacks.values():
        # The row is committed and the clock repairs what is not sent: a failure here must not reach the client.
        try:
            callback()
        except Exception:
            log.exception("after commit: %s failed", callback)


def after_commit(db: Session, key: Hashable, callback: Callable[[], None]) -> None:
    """Run `callback` once `db` has committed; a second one under the same key replaces the first."""
    db.info.setdefault(_AFTER_COMMIT, {})[key] = callback
