"""Stop: cancel all that is open of a workflow."""

from __future__ import annotations

from sqlalchemy import text

from app import publisher
from app.db import Db
from app.tasks.finish import after_end
from app.tasks.release import Ended
from schema.tasks import TaskStatus

# As one task is cancelled (app/tasks/cancel.py), but many.
_STOP = text(
    """
    WITH locked AS (
        SELECT id, status FROM tasks
        WHERE workflow_id = :id AND status IN ('pending', 'queued', 'running') AND cancel_requested_at IS NULL
        ORDER BY mapped_from IS NULL, id FOR UPDATE
    ), u AS (
        UPDATE tasks t SET
            status = CASE locked.status WHEN 'running' THEN 'running' ELSE 'cancelled' END,
            completed_at = CASE locked.status WHEN 'running' THEN NULL ELSE now() END,
            cancel_requested_at = now(), last_seq = last_seq + 1, updated_at = now()
        FROM locked WHERE t.id = locked.id AND locked.status IN ('pending', 'queued', 'running')
        RETURNING t.id, t.status, t.workflow_id, t.last_seq, t.round, t.attempt
    ), e AS (
        INSERT INTO events (task_id, seq, kind, round, attempt)
        SELECT id, last_seq, CASE status WHEN 'running' THEN 'cancel_requested' ELSE status END, round, attempt FROM u
    )
    SELECT id, status, workflow_id FROM u
    """
)


def stop(db: Db, workflow_id: str) -> None:
    """Cancel what does not run yet, and ask what runs to stop. Asking twice is harmless; the caller has its row."""
    stopped = [Ended(*row) for row in db.execute(_STOP, {"id": workflow_id})]
    after_end(db, [task for task in stopped if task.status == TaskStatus.CANCELLED])
    publisher.tell_after(db, [task.id for task in stopped if task.status == TaskStatus.RUNNING])
