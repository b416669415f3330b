"""Epoch: how the clock notices that Redis may have lost what it held, and with it the envelopes of queued tasks.

The key `clawq:epoch` holds the run_id of the server that it was written on. It is gone after a flush; after a restart
or a failover, perhaps to older data, the server's run_id is another. Then every queued task is due for another envelope
at once; some may be sent for nothing, which costs a failed claim each. After a Redis that was away is back, the same
goes for what was sent meanwhile.

A Redis that keeps losing its data causes no storm: `_REST_S` bounds how often a clock asks for everything again,
admission's window how much that is, and the batches of `recover.redispatch` how fast it is sent.
"""

from __future__ import annotations

import logging
import time
from functools import partial

import redis
from sqlalchemy import text

from app import metrics, publisher
from app.db import Db, after_commit

log = logging.getLogger(__name__)

_KEY = "clawq:epoch"
#: Seconds that a clock rests after it found a loss.
_REST_S = 10.0

# One clock at a time; another one must not write the key for rows that it did not see.
_LOCK = text("SELECT pg_try_advisory_xact_lock(hashtext('clawq.epoch'))")
# A row that is locked is being claimed, ended or sent right now. `dispatches` goes on counting: what is sent and lost
# alone waits for its backoff, but a Redis that loses all of it again is noticed here again.
_MAKE_DUE = text(
    """
    WITH lost AS (
        SELECT id FROM tasks
        WHERE status = 'queued' AND next_dispatch_at > now()
          AND (CAST(:within_s AS float8) IS NULL OR last_dispatched_at > now() - :within_s * interval '1 second')
        ORDER BY id FOR UPDATE SKIP LOCKED
    )
    UPDATE tasks t SET next_dispatch_at = now() FROM lost WHERE t.id = lost.id
    """
)

#: time.monotonic() until which this process rests.
_rests_until = 0.0
#: time.monotonic() when Redis was last asked before it did not answer; None: it answered.
_away_since: float | None = None
_asked_at = 0.0
#: Seconds by which an envelope may have been sent before its row says so, and the other way round.
_SLACK_S = 2.0


def watch(db: Db) -> None:
    """Make every queued task due for another envelope if Redis may have lost the one it had.

    Does nothing while Redis is away. The key is written after the commit: a crash in between repeats the work.
    """
    global _away_since, _asked_at
    if time.monotonic() < _rests_until:
        return
    # Before the first statement: no transaction is open in Postgres while Redis takes its time.
    seen: list[tuple[str, str]] = []
    before, _asked_at = _asked_at, time.monotonic()
    if not publisher.attempt("epoch", lambda: seen.extend(_look())):
        _away_since = _away_since or before or _asked_at
        return
    if not seen:
        return
    ((stored, run_id),) = seen
    kept = stored == run_id
    if (kept and _away_since is None) or not db.execute(_LOCK).scalar_one():
        return
    within_s = time.monotonic() - _away_since + _SLACK_S if kept and _away_since is not None else None
    due = db.execute(_MAKE_DUE, {"within_s": within_s}).rowcount  # type: ignore[attr-defined]
    after_commit(db, "epoch", partial(_begin, run_id, due, lost=not kept))


def _look() -> list[tuple[str, str]]:
    """What the key holds, and the run_id of the server that said so. Empty if this Redis does not let us ask."""
    try:
        with publisher.client().pipeline(transaction=False) as pipe:
            pipe.get(_KEY)
            pipe.info("server")
            stored, info = pipe.execute()
    except redis.ResponseError as exc:
        # It answers, so it is no reason to stop publishing.
        log.warning("a Redis that loses its data is not noticed, only its lost envelopes: %s", exc)
        _rest()
        return []
    return [((stored or b"").decode(), str(info.get("run_id", "unknown")))]


def _begin(run_id: str, due: int, *, lost: bool) -> None:
    global _away_since
    _away_since = None
    # The run_id that was read, not that of the server that answers now: it may have been replaced since.
    _rest()
    publisher.attempt("epoch", lambda: publisher.client().set(_KEY, run_id))
    metrics.REDIS_LOSSES.inc(lost)
    level = logging.WARNING if due else logging.INFO
    what = "new, restarted or flushed" if lost else "back"
    log.log(level, "Redis is %s: %d queued tasks are sent again", what, due)


def _rest() -> None:
    global _rests_until
    _rests_until = time.monotonic() + _REST_S
