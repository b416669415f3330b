"""Release: let children go when their parents succeeded, skip them when a parent did not."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from sqlalchemy import text

from app import publisher
from app.db import Db, after_commit
from app.prepared import prepared
from schema.tasks import Carrier, TaskStatus

#: Seconds that a chain or chord has to bring a task whose parents are done; then the coordinator does.
CANVAS_S = 10

# Whoever locks several tasks locks parents before children, so that no two can wait for each other: items of a map,
# which end before it and are younger, and then in the order of ids. A canvas that a parent does not
# run in will not come by for its child: the child is the coordinator's again.
_RELEASE = prepared(
    "release",
    """
    WITH gone AS (
        DELETE FROM edges WHERE parent_id = ANY(:parents) RETURNING child_id, parent_id
    ), k AS (
        SELECT child_id AS id, array_agg(parent_id) AS parents FROM gone GROUP BY child_id
    ), locked AS (
        SELECT t.id, t.carrier, k.parents FROM k JOIN tasks t USING (id)
        ORDER BY t.mapped_from IS NULL, t.id FOR UPDATE OF t
    )
    UPDATE tasks t SET
        deps_left = t.deps_left - cardinality(locked.parents),
        carrier = CASE WHEN locked.carrier = 'canvas' AND NOT :in_canvas THEN 'coordinator' ELSE locked.carrier END,
        next_dispatch_at = CASE WHEN locked.carrier = 'canvas' THEN now() + :canvas_s * interval '1 second'
                                ELSE t.next_dispatch_at END,
        updated_at = now()
    FROM locked WHERE t.id = locked.id
    RETURNING t.carrier, t.deps_left, CASE WHEN t.carrier = 'canvas' THEN locked.parents END AS parents
    """,
)
# OFFSET 0 keeps what is asked of a row apart from how it is found, which is by its id. With the statistics of a moment
# ago the planner would compare every task below with every one that is pending. `IS TRUE` below has `lost` hashed
# once; a plain IN would be joined with for each task.
_PENDING_BELOW = """
    SELECT t.id, t.on_failure FROM (SELECT child_id FROM edges WHERE parent_id = d.id OFFSET 0) AS e
    CROSS JOIN LATERAL (SELECT id, status, on_failure FROM tasks WHERE id = e.child_id OFFSET 0) AS t
    WHERE t.status = 'pending'
"""
# All the way down, but not past what lets those below it go on.
_SKIP = text(
    f"""
    WITH RECURSIVE down AS (
        SELECT t.* FROM unnest(CAST(:parents AS text[])) AS d (id) CROSS JOIN LATERAL ({_PENDING_BELOW}) AS t
        UNION
        SELECT t.* FROM down d CROSS JOIN LATERAL ({_PENDING_BELOW}) AS t WHERE d.on_failure <> 'continue'
    ), lost AS (
        SELECT unnest(CAST(:parents AS text[])) AS id UNION ALL SELECT id FROM down WHERE on_failure <> 'continue'
    ), locked AS (
        SELECT id, status, (SELECT min(parent_id) FROM edges
                            WHERE child_id = tasks.id AND (parent_id IN (SELECT id FROM lost)) IS TRUE) AS cause
        FROM tasks WHERE id = ANY (ARRAY(SELECT id FROM down)) ORDER BY mapped_from IS NULL, id FOR UPDATE
    ), u AS (
        UPDATE tasks t SET
            status = 'skipped', completed_at = now(), last_seq = t.last_seq + 1, updated_at = now(),
            error = 'Parent ' || (SELECT coalesce(key, id) FROM tasks WHERE id = locked.cause) || ' did not succeed.'
        FROM locked WHERE t.id = locked.id AND locked.status = 'pending'
        RETURNING t.id, t.status, t.workflow_id, t.last_seq, t.round, t.attempt, locked.cause
    ), e AS (
        INSERT INTO events (task_id, seq, kind, round, attempt, data)
        SELECT id, last_seq, 'skipped', round, attempt, jsonb_build_object('parent', cause) FROM u
    )
    SELECT id, status, workflow_id FROM u
    """  # noqa: S608
)
_TOLERATED = text("SELECT id FROM tasks WHERE id = ANY(:ids) AND on_failure = 'continue'")


class Ended(NamedTuple):
    """A task that has ended, or is pending again."""

    id: str
    status: str
    workflow_id: str | None


def release(db: Db, ended: Sequence[Ended], *, in_canvas: bool = False) -> None:
    """Tell the children of tasks that ended, and the coordinator where nothing else carries their workflow on.

    Must be a statement of its own after the one that ended the parents: only a snapshot taken once their rows are
    locked sees the children that a submit added while it held them (check.py).

    Args:
        ended: tasks; those that are pending again release nobody.
        in_canvas: whether the chain or chord that brought them goes on from here.
    """
    carried = _let_go(db, [task.id for task in ended if task.status == TaskStatus.SUCCEEDED], in_canvas=in_canvas)
    publisher.advance_after(db, _workflows(task for task in ended if task.id not in carried))
    lost = [t for t in ended if t.status in (TaskStatus.FAILED, TaskStatus.CANCELLED, TaskStatus.SKIPPED)]
    # All the way down in one statement, and once more: what was skipped is locked now, and may have got children too.
    while lost:
        tolerated = _tolerated(db, lost)
        _let_go(db, tolerated, in_canvas=in_canvas)
        parents = [task.id for task in lost if task.id not in tolerated]
        lost = [Ended(*row) for row in db.execute(_SKIP, {"parents": parents})] if parents else []
        publisher.advance_after(db, _workflows(lost))
        publisher.tell_after(db, [task.id for task in lost])


def _let_go(db: Db, parents: Sequence[str], *, in_canvas: bool) -> set[str]:
    """Release the children of `parents`. Returns those parents from which a canvas goes on."""
    if not parents:
        return set()
    rows = db.execute(_RELEASE, {"parents": list(parents), "in_canvas": in_canvas, "canvas_s": CANVAS_S}).all()
    if any(row.deps_left == 0 and row.carrier == Carrier.GATEWAY for row in rows):
        after_commit(db, "ring", publisher.ring)
    return {parent for row in rows for parent in row.parents or ()}


def _tolerated(db: Db, lost: Sequence[Ended]) -> list[str]:
    """Those of `lost` below which tasks go on as if it had succeeded."""
    ids = [task.id for task in lost if task.workflow_id]
    return list(db.execute(_TOLERATED, {"ids": ids}).scalars()) if ids else []


def _workflows(tasks: Iterable[Ended]) -> set[str]:
    return {task.workflow_id for task in tasks if task.workflow_id}
