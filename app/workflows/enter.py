"""Enter: tasks that a chain or chord has come to are queued, without another turn at the gateway.

Celery itself sends the next job of a canvas, so what admission looks at is looked at here again. Whatever may not enter
is the coordinator's.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any

from app import publisher
from app.db import Db
from app.prepared import prepared
from app.tasks.admit import REDISPATCH_S
from app.workflows.prepare import prepare

_COME_TO = prepared(
    "enter_come_to",
    """
    WITH locked AS (
        SELECT id, workflow_id, task_type, rules, status, carrier, deps_left FROM tasks
        WHERE id = ANY(:ids) ORDER BY mapped_from IS NULL, id FOR UPDATE
    )
    SELECT id, workflow_id, task_type, rules FROM locked
    WHERE status = 'pending' AND carrier = 'canvas' AND deps_left = 0
    """,
)
# What an agent with a limit has in flight is counted at the gateway alone: its tasks are refused here. OFFSET 0 is for
# the planner, as in carry.py.
_ENTER = prepared(
    "enter",
    """
    WITH fit AS (
        SELECT t.id, a.id AS agent FROM unnest(CAST(:ids AS text[])) AS n (id)
        CROSS JOIN LATERAL (SELECT * FROM tasks WHERE id = n.id OFFSET 0) AS t
        CROSS JOIN LATERAL (SELECT * FROM workflows WHERE id = t.workflow_id OFFSET 0) AS w
        JOIN agents a ON a.id = CASE WHEN t.pinned THEN t.assigned_to ELSE :agent END AND a.status = 'active'
        WHERE w.status = 'running' AND w.cancel_requested_at IS NULL
          AND t.status = 'pending' AND t.available_at <= now()
          AND coalesce(a.configuration->'max_running', 'null') = 'null'
          AND (coalesce(a.configuration->'task_types', 'null') = 'null'
               OR jsonb_exists(a.configuration->'task_types', t.task_type))
    ), u AS (
        UPDATE tasks t
        SET status = 'queued', assigned_to = fit.agent, dispatches = 1, last_dispatched_at = now(),
            next_dispatch_at = now() + :redispatch_s * interval '1 second', last_seq = last_seq + 1, updated_at = now()
        FROM fit WHERE t.id = fit.id
        RETURNING t.id, t.queue, t.last_seq, t.round, t.attempt, t.assigned_to
    ), e AS (
        INSERT INTO events (task_id, seq, kind, round, attempt, data)
        SELECT id, last_seq, 'queued', round, attempt, jsonb_build_object('queue', queue, 'agent', assigned_to) FROM u
    )
    SELECT id FROM u
    """,
)
_REFUSE = prepared(
    "enter_refuse",
    """
    UPDATE tasks SET carrier = 'coordinator' WHERE id = ANY(:ids) AND status = 'pending' AND carrier = 'canvas'
    RETURNING workflow_id
    """,
)


def enter(db: Db, ids: Sequence[str], agent_id: str) -> None:
    """Queue those of `ids` that a canvas was to bring and whose parents are done, for a worker of `agent_id`.

    The others (a canvas that came twice, a cancelled task) are left alone, quietly.
    """
    rows = db.execute(_COME_TO, {"ids": list(ids)}).all()
    if not rows:
        return
    ruled = sorted((row for row in rows if row.rules), key=_workflow)
    for workflow_id, group in groupby(ruled, key=_workflow):
        prepare(db, workflow_id, list(group))
    come = [row.id for row in rows]
    params = {"ids": come, "agent": agent_id, "redispatch_s": REDISPATCH_S}
    entered = set(db.execute(_ENTER, params).scalars())
    if refused := [task_id for task_id in come if task_id not in entered]:
        publisher.advance_after(db, db.execute(_REFUSE, {"ids": refused}).scalars())


def _workflow(row: Any) -> str:
    return str(row.workflow_id)
