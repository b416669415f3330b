"""Cancel: at once while nobody runs it, by request while somebody does."""

from __future__ import annotations

from sqlalchemy import text
from sqlalchemy.orm import Session

from app import publisher
from app.errors import Conflict
from app.tasks.finish import after_end
from schema.tasks import TaskStatus

_CANCEL = text(
    """
    WITH u AS (
        UPDATE tasks SET
            status = CASE status WHEN 'running' THEN 'running' ELSE 'cancelled' END,
            completed_at = CASE status WHEN 'running' THEN NULL ELSE now() END,
            cancel_requested_at = now(), last_seq = last_seq + 1, updated_at = now()
        WHERE id = :id AND cancel_requested_at IS NULL AND status IN ('pending', 'queued', 'running')
        RETURNING id, last_seq, round, attempt, status
    ), e AS (
        INSERT INTO events (task_id, seq, kind, round, attempt)
        SELECT id, last_seq, CASE status WHEN 'running' THEN 'cancel_requested' ELSE status END, round, attempt FROM u
    )
    SELECT status FROM u
    """
)
_STATUS = text("SELECT status FROM tasks WHERE id = :id")


def cancel(db: Session, task_id: str) -> TaskStatus:
    """Cancel a task that exists. Asking twice is harmless.

    Returns:
        `cancelled`, or `running`: its worker was asked to stop, and `cancelled` follows when the program is dead.

    Raises:
        Conflict: it has already ended otherwise.
    """
    status = db.execute(_CANCEL, {"id": task_id}).scalar()
    if status is None:
        status = db.execute(_STATUS, {"id": task_id}).scalar_one()
        if status not in (TaskStatus.CANCELLED, TaskStatus.RUNNING):
            raise Conflict(f"The task is {status}.")
    elif status == TaskStatus.CANCELLED:
        after_end(db, [(task_id, status)])
    else:
        publisher.tell_after(db, [task_id])
    return TaskStatus(status)
