"""Control: cancel, pause and resume a workflow."""

from __future__ import annotations

from sqlalchemy import text

from app import publisher
from app.db import Db
from app.errors import Conflict
from app.workflows.end import end
from app.workflows.lock import lock
from app.workflows.stop import stop
from schema.workflows import ENDED, WorkflowStatus

_ASK = text(
    """
    UPDATE workflows SET cancel_requested_at = coalesce(cancel_requested_at, now()), updated_at = now() WHERE id = :id
    """
)
_PAUSE = text("UPDATE workflows SET status = 'paused', updated_at = now() WHERE id = :id")
_RESUME = text(
    """
    UPDATE workflows SET status = 'running', started_at = coalesce(started_at, now()), updated_at = now()
    WHERE id = :id
    """
)
# What is queued has an envelope, which will find nothing to claim. A canvas finds that its task is not its any more.
_HOLD = text(
    """
    WITH locked AS (
        SELECT id, status FROM tasks WHERE workflow_id = :id AND status IN ('pending', 'queued')
        ORDER BY mapped_from IS NULL, id FOR UPDATE
    ), u AS (
        UPDATE tasks t SET
            status = 'pending', carrier = 'coordinator', updated_at = now(),
            assigned_to = CASE WHEN pinned OR locked.status = 'pending' THEN assigned_to END,
            last_seq = last_seq + CASE locked.status WHEN 'queued' THEN 1 ELSE 0 END
        FROM locked WHERE t.id = locked.id AND locked.status IN ('pending', 'queued')
        RETURNING t.id, t.last_seq, t.round, t.attempt, locked.status AS was
    ), e AS (
        INSERT INTO events (task_id, seq, kind, round, attempt, data)
        SELECT id, last_seq, 'retrying', round, attempt, '{"reason": "paused"}' FROM u WHERE was = 'queued'
    )
    SELECT id FROM u WHERE was = 'queued'
    """
)


def cancel(db: Db, workflow_id: str) -> WorkflowStatus:
    """Cancel a workflow that exists. Asking twice is harmless.

    Returns:
        `cancelled`; or as it was, while programs of it are being stopped, and `cancelled` follows when they are dead.

    Raises:
        Conflict: it has already ended otherwise.
    """
    status = lock(db, workflow_id).status
    if status in ENDED and status != WorkflowStatus.CANCELLED:
        raise Conflict(f"The workflow is {status}.")
    if status == WorkflowStatus.CANCELLED:
        return WorkflowStatus.CANCELLED
    db.execute(_ASK, {"id": workflow_id})
    stop(db, workflow_id)
    return WorkflowStatus.CANCELLED if end(db, workflow_id) else WorkflowStatus(status)


def pause(db: Db, workflow_id: str) -> None:
    """Start nothing more of a workflow; what runs goes on. Asking twice is harmless.

    Raises:
        Conflict: it has ended, or is being cancelled.
    """
    workflow = lock(db, workflow_id)
    if workflow.status in ENDED or workflow.cancel_requested_at:
        raise Conflict(f"The workflow is {'being cancelled' if workflow.cancel_requested_at else workflow.status}.")
    db.execute(_PAUSE, {"id": workflow_id})
    held = db.execute(_HOLD, {"id": workflow_id}).scalars()
    publisher.tell_after(db, [workflow_id, *held])


def resume(db: Db, workflow_id: str) -> None:
    """Let a paused workflow go on. Asking twice is harmless.

    Raises:
        Conflict: it has ended.
    """
    status = lock(db, workflow_id).status
    if status in ENDED:
        raise Conflict(f"The workflow is {status}.")
    if status == WorkflowStatus.PAUSED:
        db.execute(_RESUME, {"id": workflow_id})
        publisher.tell_after(db, [workflow_id])
    publisher.advance_after(db, [workflow_id])
