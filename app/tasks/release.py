"""Release: let children go when their parents succeeded, skip them when a parent did not."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import text

from app import publisher
from app.db import Db, after_commit
from app.prepared import prepared
from schema.tasks import TaskStatus

# Locks in id order, so that two parents that end together cannot wait for each other.
_RELEASE = prepared(
    "release",
    """
    WITH gone AS (
        DELETE FROM edges WHERE parent_id = ANY(:parents) RETURNING child_id
    ), k AS (
        SELECT child_id AS id, count(*) AS parents FROM gone GROUP BY child_id
    ), locked AS (
        SELECT t.id, k.parents FROM k JOIN tasks t USING (id) ORDER BY t.id FOR UPDATE OF t
    )
    UPDATE tasks t SET deps_left = t.deps_left - locked.parents, updated_at = now()
    FROM locked WHERE t.id = locked.id
    RETURNING t.deps_left
    """,
)
_SKIP = text(
    """
    WITH RECURSIVE down AS (
        SELECT child_id AS id, parent_id AS cause FROM edges WHERE parent_id = ANY(:parents)
        UNION
        SELECT e.child_id, d.cause FROM edges e JOIN down d ON e.parent_id = d.id
    ), causes AS (
        SELECT id, min(cause) AS cause FROM down GROUP BY id
    ), locked AS (
        SELECT id, status FROM tasks WHERE id IN (SELECT id FROM causes) ORDER BY id FOR UPDATE
    ), u AS (
        UPDATE tasks t SET status = 'skipped', error = 'Parent ' || causes.cause || ' did not succeed.',
                           completed_at = now(), last_seq = last_seq + 1, updated_at = now()
        FROM locked JOIN causes USING (id) WHERE t.id = locked.id AND locked.status = 'pending'
        RETURNING t.id, t.last_seq, t.round, t.attempt, causes.cause
    )
    INSERT INTO events (task_id, seq, kind, round, attempt, data)
    SELECT id, last_seq, 'skipped', round, attempt, jsonb_build_object('parent', cause) FROM u RETURNING task_id
    """
)


def release(db: Db, ended: Sequence[tuple[str, str]]) -> None:
    """Tell the children of tasks that ended; `ended` pairs ids with statuses, pending ones are passed over.

    Must be a statement of its own after the one that ended the parents: only a snapshot taken once their rows are
    locked sees the children that a submit added while it held them (check.py).
    """
    succeeded = [task_id for task_id, status in ended if status == TaskStatus.SUCCEEDED]
    if succeeded and any(row.deps_left == 0 for row in db.execute(_RELEASE, {"parents": succeeded})):
        after_commit(db, "ring", publisher.ring)
    lost = [t for t, status in ended if status in (TaskStatus.FAILED, TaskStatus.CANCELLED, TaskStatus.SKIPPED)]
    # All the way down in one statement, and once more: what was skipped is locked now, and may have got children too.
    while lost and (lost := list(db.execute(_SKIP, {"parents": lost}).scalars())):
        publisher.tell_after(db, lost)
