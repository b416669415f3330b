"""Advance: look at a workflow, and let go what may go. Everything that happens to one leads here.

It does no harm to come too often: what there is to do is read from the rows. What comes too seldom, because a bell, a
chain or a chord was lost, the clock makes up for (sweep.py).
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import text

from app import metrics, publisher
from app.db import Db, after_commit
from app.tasks.admit import admit
from app.workflows.end import end
from app.workflows.lock import lock
from app.workflows.prepare import prepare
from app.workflows.stop import stop
from schema.workflows import ENDED, WorkflowStatus

#: Tasks that are looked at together, and how often in one transaction: whoever wants to pause waits for its end.
_BATCH = 500
_ROUNDS = 4
_UNLIMITED = 2**31

_BEGIN = text("UPDATE workflows SET status = 'running', started_at = now(), updated_at = now() WHERE id = :id")
_ABORTED = text(
    """
    SELECT key, status FROM tasks
    WHERE workflow_id = :id AND on_failure = 'cancel' AND status IN ('failed', 'cancelled') LIMIT 1
    """
)
# "carrier <> 'gateway'", here and below, is for the planner: as it is in the index of what is ready.
# A task that a canvas should have brought by now is ours again.
_OVERDUE = text(
    """
    WITH overdue AS (
        SELECT id FROM tasks
        WHERE workflow_id = :id AND status = 'pending' AND deps_left = 0 AND carrier <> 'gateway'
          AND carrier = 'canvas' AND next_dispatch_at <= now()
        ORDER BY id FOR UPDATE
    )
    UPDATE tasks t SET carrier = 'coordinator' FROM overdue WHERE t.id = overdue.id RETURNING t.id
    """
)
_READY = text(
    """
    SELECT id, task_type, rules FROM tasks
    WHERE workflow_id = :id AND status = 'pending' AND deps_left = 0 AND carrier <> 'gateway'
      AND carrier = 'coordinator' AND available_at <= now()
    ORDER BY priority_rank, available_at, id LIMIT :most FOR UPDATE
    """
)
# What is on its way to its queue counts too.
_IN_FLIGHT = text(
    """
    SELECT count(*) FROM tasks WHERE workflow_id = :id AND status IN ('pending', 'queued', 'running')
        AND (status <> 'pending' OR deps_left = 0 AND carrier = 'gateway')
    """
)
_LET_GO = text(
    "UPDATE tasks SET carrier = 'gateway' WHERE id = ANY(:ids) AND status = 'pending' AND deps_left = 0 RETURNING id"
)


def advance(db: Db, workflow_id: str) -> None:
    """Bring a workflow as far as it can go now. Raises NotFound."""
    workflow = lock(db, workflow_id)
    if workflow.status in ENDED:
        return
    if workflow.status == WorkflowStatus.PENDING:
        db.execute(_BEGIN, {"id": workflow_id})
        publisher.tell_after(db, [workflow_id])
    if workflow.cancel_requested_at or _is_aborted(db, workflow_id):
        stop(db, workflow_id)
    elif workflow.status != WorkflowStatus.PAUSED:
        _go_on(db, workflow)
    end(db, workflow_id)


def _go_on(db: Db, workflow: Any) -> None:
    metrics.CANVASES_OVERDUE.inc(len(db.execute(_OVERDUE, {"id": workflow.id}).all()))
    room = _room(db, workflow)
    gone = 0
    # Each is let go, ends, or waits for its items: none comes twice. What ends may make others ready.
    for _ in range(_ROUNDS):
        rows = db.execute(_READY, {"id": workflow.id, "most": min(_BATCH, room - gone)}).all()
        ruled = [row for row in rows if row.rules]
        prepare(db, workflow.id, ruled)
        if ruled and _is_aborted(db, workflow.id):
            stop(db, workflow.id)
            return
        gone += len(db.execute(_LET_GO, {"ids": [row.id for row in rows]}).all())
        if not rows:
            break
    else:
        # There may be more; those that are ready now shall not wait for them.
        publisher.advance_after(db, [workflow.id])
    if gone and admit(db).more:
        after_commit(db, "ring", publisher.ring)


def _is_aborted(db: Db, workflow_id: str) -> bool:
    return db.execute(_ABORTED, {"id": workflow_id}).first() is not None


def _room(db: Db, workflow: Any) -> int:
    """How many more of its tasks may be in flight."""
    if workflow.max_running is None:
        return _UNLIMITED
    in_flight: int = db.execute(_IN_FLIGHT, {"id": workflow.id}).scalar_one()
    return max(0, int(workflow.max_running) - in_flight)
