"""Carry: plan what chains and chords bring after tasks that are being queued, and note in their rows that they do."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import text

from app.db import Db
from app.prepared import prepared
from app.tasks.dispatch import Queued
from app.tasks.types import TASK_TYPES
from app.workflows.plan import LONGEST, Node, Plan, plan

# `next` is the only child: two are enough to know that there are more. A task with a limit on its workflow is carried
# by nothing: whenever one ends, the coordinator counts anew. Nor is one with `map`, which is not run itself.
_NEXT = """(SELECT CASE count(*) WHEN 1 THEN min(child_id) END
         FROM (SELECT child_id FROM edges WHERE parent_id = t.id LIMIT 2) AS two)"""
# OFFSET 0 keeps what is asked of a row apart from how it is found, which is by its id. With the statistics of a moment
# ago the planner would go through all tasks of all workflows, and compare every task with every one that is pending.
_BELOW = prepared(
    "carry_below",
    f"""
    WITH RECURSIVE walk AS (
        SELECT t.id, t.workflow_id, t.queue, t.task_type, t.deps_left, 1 AS depth, {_NEXT} AS next
        FROM unnest(CAST(:ids AS text[])) AS n (id)
        CROSS JOIN LATERAL (SELECT * FROM tasks WHERE id = n.id OFFSET 0) AS t
        CROSS JOIN LATERAL (SELECT max_running FROM workflows WHERE id = t.workflow_id OFFSET 0) AS w
        WHERE w.max_running IS NULL
        UNION
        SELECT t.id, t.workflow_id, t.queue, t.task_type, t.deps_left, depth + 1, {_NEXT}
        FROM walk CROSS JOIN LATERAL (SELECT * FROM tasks WHERE id = walk.next OFFSET 0) AS t
        WHERE depth < {LONGEST} + 1 AND walk.deps_left <= 1 AND t.workflow_id = walk.workflow_id
          AND t.status = 'pending' AND (t.rules IS NULL OR NOT jsonb_exists(t.rules, 'map'))
    )
    SELECT id, workflow_id, queue, task_type, deps_left, next FROM walk
    """,  # noqa: S608
)
_MARK = text(
    """
    WITH locked AS (
        SELECT id FROM tasks WHERE id = ANY(:ids) AND status = 'pending' ORDER BY id FOR UPDATE
    )
    UPDATE tasks t SET carrier = 'canvas' FROM locked WHERE t.id = locked.id
    """
)


@dataclass(frozen=True)
class Carried:
    """A plan, and the queue of each task in it."""

    plan: Plan
    queues: dict[str, str]


def carry(db: Db, starting: Iterable[Queued]) -> Carried:
    """Plan for tasks of workflows that are queued in this transaction, those of others left out."""
    ids = [task.id for task in starting]
    rows = db.execute(_BELOW, {"ids": ids}).all()
    nodes = {row.id: Node(row.id, row.workflow_id, row.next, row.deps_left, _shares(row.task_type)) for row in rows}
    made = plan([task_id for task_id in ids if task_id in nodes], nodes)
    if made.followers:
        db.execute(_MARK, {"ids": made.followers})
    return Carried(made, {row.id: row.queue for row in rows})


def _shares(task_type: str) -> bool:
    known = TASK_TYPES.get(task_type)
    return known is not None and known.share > 1
