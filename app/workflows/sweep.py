"""Sweep: the clock's part in workflows. What a bell, a chain or a chord should have brought on is brought on by it."""

from __future__ import annotations

from sqlalchemy import text

from app import publisher
from app.db import Db

#: Workflows in one transaction.
_BATCH = 200

# A task that is due and that nobody carries, or whose canvas is overdue, unless the workflow has no room for it; and a
# workflow that could end. Any of them: none that it is of no use to look at stands before the others for ever.
_STALLED = text(
    """
    SELECT w.id FROM workflows w
    WHERE w.status IN ('pending', 'running', 'paused')
      AND (w.status = 'pending'
        OR w.cancel_requested_at IS NOT NULL AND EXISTS (
            SELECT FROM tasks t WHERE t.workflow_id = w.id AND t.status IN ('pending', 'queued'))
        OR w.status = 'running' AND EXISTS (
            SELECT FROM tasks t
            WHERE t.workflow_id = w.id AND t.status = 'pending' AND t.deps_left = 0 AND t.carrier <> 'gateway'
              AND (t.carrier = 'coordinator' AND t.available_at <= now()
                   OR t.carrier = 'canvas' AND t.next_dispatch_at <= now()))
          AND (w.max_running IS NULL OR w.max_running > (
              SELECT count(*) FROM tasks t
              WHERE t.workflow_id = w.id AND t.status IN ('pending', 'queued', 'running')
                AND (t.status <> 'pending' OR t.deps_left = 0 AND t.carrier = 'gateway')))
        OR NOT EXISTS (
            SELECT FROM tasks t WHERE t.workflow_id = w.id AND t.status IN ('pending', 'queued', 'running')))
    ORDER BY random() LIMIT :batch
    """
)


def sweep(db: Db) -> None:
    """Ask the coordinator to look at workflows that stand still and need not."""
    ids = list(db.execute(_STALLED, {"batch": _BATCH}).scalars())
    publisher.advance_after(db, ids)
