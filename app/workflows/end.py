"""End: a workflow of which nothing is open any more has ended; how, follows from its tasks."""

from __future__ import annotations

from sqlalchemy import text

from app import metrics, publisher
from app.db import Db, after_commit

# Tolerated is what a task itself says of its failure; items answer to the task that they are items of.
_END = text(
    """
    WITH bad AS (
        SELECT key, status, error FROM tasks
        WHERE workflow_id = :id AND status IN ('failed', 'cancelled') AND mapped_from IS NULL
          AND on_failure <> 'continue'
        ORDER BY completed_at, id
    )
    UPDATE workflows w SET
        status = CASE WHEN cancel_requested_at IS NOT NULL THEN 'cancelled'
                      WHEN EXISTS (SELECT FROM bad) THEN 'failed' ELSE 'succeeded' END,
        error = CASE WHEN cancel_requested_at IS NULL
                     THEN (SELECT 'Task ' || key || CASE status WHEN 'failed' THEN ' failed' ELSE ' was cancelled' END
                                  || coalesce(': ' || error, '.') FROM bad LIMIT 1) END,
        completed_at = now(), updated_at = now()
    WHERE id = :id
      AND NOT EXISTS (SELECT FROM tasks WHERE workflow_id = :id AND status IN ('pending', 'queued', 'running'))
    RETURNING w.status
    """
)


def end(db: Db, workflow_id: str) -> bool:
    """End a workflow whose tasks have all ended; the caller holds its row. Returns whether it did."""
    status = db.execute(_END, {"id": workflow_id}).scalar()
    if status is None:
        return False
    publisher.tell_after(db, [workflow_id])
    after_commit(db, ("workflow", workflow_id), metrics.WORKFLOWS_COMPLETED.labels(status=status).inc)
    return True
