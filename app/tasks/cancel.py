"""Cancel: at once while nobody runs it, by request while somebody does."""

from __future__ import annotations

from sqlalchemy import text
from sqlalchemy.orm import Session

from app import publisher
from app.errors import Conflict
from app.tasks.finish import after_end
from app.tasks.release import Ended
from schema.tasks import TaskStatus

# All that is asked of the row is asked of it as it was locked: a retry may be making another of it at this moment.
_CANCEL = text(
    """
    WITH locked AS (
        SELECT id, status, workflow_id, cancel_requested_at FROM tasks WHERE id = :id FOR UPDATE
    ), u AS (
        UPDATE tasks t SET
            status = CASE t.status WHEN 'running' THEN 'running' ELSE 'cancelled' END,
            completed_at = CASE t.status WHEN 'running' THEN NULL ELSE now() END,
            cancel_requested_at = now(), last_seq = last_seq + 1, updated_at = now()
        FROM locked
        WHERE t.id = locked.id AND locked.cancel_requested_at IS NULL
          AND locked.status IN ('pending', 'queued', 'running')
        RETURNING t.id, t.last_seq, t.round, t.attempt, t.status
    ), e AS (
        INSERT INTO events (task_id, seq, kind, round, attempt)
        SELECT id, last_seq, CASE status WHEN 'running' THEN 'cancel_requested' ELSE status END, round, attempt FROM u
    )
    SELECT coalesce(u.status, locked.status) AS status, workflow_id, u.id IS NOT NULL AS done
    FROM locked LEFT JOIN u USING (id)
    """
)


# Held before the task that they are items of, as everybody does (release.py).
_ITEMS = text(
    """
    SELECT id FROM tasks WHERE mapped_from = :id AND status IN ('pending', 'queued', 'running') ORDER BY id FOR UPDATE
    """
)


def cancel(db: Session, task_id: str) -> TaskStatus:
    """Cancel a task that exists. Asking twice is harmless.

    Returns:
        `cancelled`, or `running`: its worker was asked to stop, and `cancelled` follows when the program is dead.

    Raises:
        Conflict: it has already ended otherwise.
    """
    items = db.execute(_ITEMS, {"id": task_id}).scalars().all()
    status, workflow_id, done = db.execute(_CANCEL, {"id": task_id}).one()
    if status not in (TaskStatus.CANCELLED, TaskStatus.RUNNING):
        raise Conflict(f"The task is {status}.")
    if done and status == TaskStatus.CANCELLED:
        after_end(db, [Ended(task_id, status, workflow_id)])
        for item in items:
            cancel(db, item)
    elif done:
        publisher.tell_after(db, [task_id])
    return TaskStatus(status)
