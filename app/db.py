"""Database: one engine a process, transactions at the edge, and what has to wait until they committed.

A request or a Celery job opens `transaction()`; the verbs in app/ take `db` first and never commit.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from functools import cache

from sqlalchemy import Engine, create_engine
from sqlalchemy.orm import Session

from app.settings import settings

log = logging.getLogger(__name__)

_AFTER_COMMIT = "clawq.after_commit"

#: Bounds, so that a stuck Postgres shows as an error, never as a hang.
_CONNECT_TIMEOUT_S = 5
_BOUNDS = "-c statement_timeout=30s -c lock_timeout=10s -c idle_in_transaction_session_timeout=60s"
#: JIT takes half a second to compile a statement that runs for three milliseconds (measured on admission).
_OPTIONS = f"{_BOUNDS} -c jit=off -c timezone=UTC"


@cache
def engine() -> Engine:
    """The connection pool of this process, opened at first use."""
    return create_engine(
        settings().require_database_url(),
        # A worker's slots, its heartbeat and its probes; each holds a connection only for a statement or two.
        pool_size=10,
        max_overflow=30,
        pool_timeout=10,
        # A restarted Postgres would otherwise fail the first use of every pooled connection.
        pool_pre_ping=True,
        connect_args={
            "connect_timeout": _CONNECT_TIMEOUT_S,
            "options": _OPTIONS,
            "application_name": "clawq",
            "keepalives_idle": 10,
            "tcp_user_timeout": 20_000,
        },
    )


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
