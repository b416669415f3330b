"""Database: one engine a process, transactions at the edge, and what has to wait until they committed.

A request or a Celery job opens a transaction; the verbs in app/ take `db` first and never commit. `transaction()`
carries models; `statements()` carries only SQL and costs half as much, which counts at thousands of tasks a second;
`single()` is for one statement alone.
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
from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import DBAPIError, InvalidatePoolError, SQLAlchemyError
from sqlalchemy.orm import Session

from app import prepared
from app.settings import settings

log = logging.getLogger(__name__)

#: What verbs take: most need SQL alone, some models.
Db = Session | Connection
_Callbacks = dict[Hashable, Callable[[], None]]

_AFTER_COMMIT = "clawq.after_commit"

#: Bounds that Postgres keeps. The last one frees rows that a process holds which was stopped in a transaction.
_BOUNDS = "-c statement_timeout=10s -c lock_timeout=5s -c idle_in_transaction_session_timeout=10s"
#: Seconds until we stop waiting for a Postgres that keeps none: one that is stopped, or behind a broken network.
_ANSWER_S = 12.0
#: JIT takes half a second to compile a statement that runs for three milliseconds (measured on admission). What is
#: prepared is planned once, for any parameters (prepared.py), perhaps while a table is nearly empty: so that the plan
#: still holds when it has grown, tables are read by an index where there is one.
_OPTIONS = f"{_BOUNDS} -c timezone=UTC -c jit=off -c plan_cache_mode=force_generic_plan -c enable_seqscan=off"


@cache
def engine() -> Engine:
    """The connection pool of this process, opened at first use."""
    return _create_engine()


def _create_engine(**options: Any) -> Engine:
    psycopg2.extensions.set_wait_callback(_wait)
    made = create_engine(
        settings().require_database_url(),
        # What people store is not for logs and errors.
        hide_parameters=True,
        # A worker's slots, its heartbeat and its probes; each holds a connection only for a statement or two.
        pool_size=10,
        max_overflow=30,
        pool_timeout=10,
        connect_args={
            "options": _OPTIONS,
            "application_name": "clawq",
        },
        **options,
    )

    prepared.enable(made)

    @event.listens_for(made, "checkout")
    def look(connection: Any, _record: Any, _proxy: Any) -> None:
        # A restarted Postgres would otherwise fail the first use of every pooled connection. One that is in order has
        # nothing to say now; to ask each time would cost as much as many a statement.
        if not connection.closed and not _has_word(connection):
            return
        try:
            made.dialect.do_ping(connection)
        except psycopg2.Error as exc:
            raise InvalidatePoolError from exc

    return made


def _has_word(connection: Any) -> bool:
    """Whether something came from Postgres unasked: its farewell, most likely, or the end of the stream."""
    poller = select.poll()
    poller.register(connection.fileno(), select.POLLIN)
    return bool(poller.poll(0))


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
        callbacks: _Callbacks = {}
        db.info[_AFTER_COMMIT] = callbacks
        with db.begin():
            yield db
    _run(callbacks)


@contextmanager
def statements() -> Iterator[Connection]:
    """The same for verbs that need no models."""
    with engine().connect() as db:
        callbacks: _Callbacks = {}
        db.info[_AFTER_COMMIT] = callbacks
        with db.begin():
            yield db
    _run(callbacks)


@contextmanager
def single() -> Iterator[Connection]:
    """The same for verbs that are one statement: a transaction by itself, without BEGIN and COMMIT to wait for."""
    with _autocommit().connect() as db:
        callbacks: _Callbacks = {}
        db.info[_AFTER_COMMIT] = callbacks
        yield db
    _run(callbacks)


@cache
def _autocommit() -> Engine:
    # An engine of its own: to turn a connection into one that commits by itself, and back, costs more than it saves.
    return _create_engine(isolation_level="AUTOCOMMIT")


def is_out_of_time(exc: SQLAlchemyError) -> bool:
    """Whether Postgres gave a statement up because it took too long."""
    return isinstance(exc, DBAPIError) and getattr(exc.orig, "pgcode", None) == "57014"


def after_commit(db: Db, key: Hashable, callback: Callable[[], None]) -> None:
    """Run `callback` once `db` has committed; a second one under the same key replaces the first."""
    db.info[_AFTER_COMMIT][key] = callback


def noted(db: Db, key: Hashable) -> Callable[[], None] | None:
    """The callback that `after_commit` was given under this key in this transaction."""
    callbacks: _Callbacks = db.info[_AFTER_COMMIT]
    return callbacks.get(key)


def _run(callbacks: _Callbacks) -> None:
    for callback in callbacks.values():
        # The row is committed and the clock repairs what is not sent: a failure here must not reach the client.
        try:
            callback()
        except Exception:
            log.exception("after commit: %s failed", callback)
