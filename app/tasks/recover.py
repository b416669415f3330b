"""Recover: what the clock does, each verb a bounded batch, safe to run from several clocks at once."""

from __future__ import annotations

from functools import partial

from sqlalchemy import text

from app import metrics, publisher
from app.db import Db, after_commit
from app.tasks.admit import REDISPATCH_S
from app.tasks.dispatch import Queued, envelopes
from app.tasks.finish import after_end
from app.tasks.release import Ended
from app.tasks.retry import MAX_INFRA_FAILURES

#: Rows a verb takes in one transaction.
BATCH = 200

# 30 s after the first envelope, then 60, 120, 240, 300, 300 …
_REDISPATCH = text(
    """
    WITH due AS (
        SELECT id FROM tasks WHERE status = 'queued' AND next_dispatch_at <= now()
        ORDER BY next_dispatch_at FOR UPDATE SKIP LOCKED LIMIT :batch
    )
    UPDATE tasks t SET dispatches = dispatches + 1, last_dispatched_at = now(),
        next_dispatch_at = now() + least(:redispatch_s * power(2, least(dispatches, 4)), 300) * interval '1 second'
    FROM due WHERE t.id = due.id RETURNING t.id, t.queue, t.task_type, octet_length(t.payload::text) AS payload_bytes
    """
)
# The container of a lost worker ends itself when its worker's stream closes; so a cancel is honoured here.
_TAKE_BACK = text(
    """
    WITH due AS (
        SELECT id,
               CASE WHEN cancel_requested_at IS NOT NULL THEN 'cancelled'
                    WHEN deadline <= now() OR infra_failures + 1 >= :max_infra THEN 'failed'
                    ELSE 'pending' END AS next,
               CASE WHEN deadline <= now() THEN 'The deadline passed and its worker was lost.'
                    ELSE 'Its worker ' || lease_owner || ' stopped its heartbeat.' END AS why,
               lease_owner
        FROM tasks WHERE status = 'running' AND lease_until < now()
        ORDER BY id FOR UPDATE SKIP LOCKED LIMIT :batch
    ), u AS (
        UPDATE tasks t SET
            status = due.next, infra_failures = infra_failures + 1, error = due.why,
            completed_at = CASE WHEN due.next <> 'pending' THEN now() END,
            available_at = now() + (power(2, infra_failures) - 1) * interval '1 second',
            assigned_to = CASE WHEN due.next <> 'pending' OR pinned THEN assigned_to END,
            carrier = CASE WHEN workflow_id IS NULL THEN carrier ELSE 'coordinator' END,
            lease_owner = NULL, lease_until = NULL, updated_at = now(),
            last_seq = last_seq + CASE WHEN due.next = 'pending' THEN 1 ELSE 2 END
        FROM due WHERE t.id = due.id
        RETURNING t.id, t.attempt, t.round, t.status, t.workflow_id, t.last_seq, due.why, due.lease_owner
    ), a AS (
        UPDATE attempts a SET ended_at = now(), outcome = 'lease_expired', error = u.why
        FROM u WHERE a.task_id = u.id AND a.attempt = u.attempt
    ), e AS (
        INSERT INTO events (task_id, seq, kind, round, attempt, data)
        SELECT id, last_seq - CASE WHEN status = 'pending' THEN 0 ELSE 1 END, 'lease_expired', round, attempt,
               jsonb_build_object('worker', lease_owner) FROM u
        UNION ALL
        SELECT id, last_seq, status, round, attempt, jsonb_build_object('error', why) FROM u WHERE status <> 'pending'
    )
    SELECT id, status, workflow_id FROM u
    """
)
_EXPIRE = text(
    """
    WITH due AS (
        SELECT id FROM tasks WHERE status IN ('pending', 'queued') AND deadline <= now()
        ORDER BY id FOR UPDATE SKIP LOCKED LIMIT :batch
    ), u AS (
        UPDATE tasks t SET status = 'failed', error = 'The deadline passed before it was started.',
                           completed_at = now(), last_seq = last_seq + 1, updated_at = now()
        FROM due WHERE t.id = due.id RETURNING t.id, t.last_seq, t.round, t.attempt, t.status, t.workflow_id, t.error
    ), e AS (
        INSERT INTO events (task_id, seq, kind, round, attempt, data)
        SELECT id, last_seq, 'failed', round, attempt, jsonb_build_object('error', error) FROM u
    )
    SELECT id, status, workflow_id FROM u
    """
)
_ADMISSIBLE = text(
    """
    SELECT EXISTS (SELECT FROM tasks WHERE status = 'pending' AND deps_left = 0 AND carrier = 'gateway'
                   AND available_at <= now())
    """
)


def redispatch(db: Db) -> int:
    """Send another envelope for queued tasks that nobody claimed in time. Returns how many."""
    rows = [Queued(*row) for row in db.execute(_REDISPATCH, {"batch": BATCH, "redispatch_s": REDISPATCH_S})]
    if rows:
        metrics.REDISPATCHES.inc(len(rows))
        after_commit(db, "send", partial(publisher.send, list(envelopes(rows))))
    return len(rows)


def take_back(db: Db, batch: int | None = None) -> int:
    """End attempts whose lease has expired; their tasks go back to pending, or end. Returns how many."""
    rows = db.execute(_TAKE_BACK, {"batch": batch or BATCH, "max_infra": MAX_INFRA_FAILURES}).all()
    metrics.LEASES_EXPIRED.inc(len(rows))
    after_end(db, [Ended(*row) for row in rows])
    return len(rows)


def expire(db: Db, batch: int | None = None) -> int:
    """Fail tasks that no worker started before their deadline. Returns how many."""
    rows = db.execute(_EXPIRE, {"batch": batch or BATCH}).all()
    after_end(db, [Ended(*row) for row in rows])
    return len(rows)


def start_due(db: Db) -> bool:
    """Ring the gateway if a task is due: a delayed start, a retry, a lost bell. Returns whether it did."""
    due: bool = db.execute(_ADMISSIBLE).scalar_one()
    if due:
        after_commit(db, "ring", publisher.ring)
    return due
