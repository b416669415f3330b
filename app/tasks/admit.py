"""Admit: move the best pending tasks to their queues, while those have room.

An envelope cannot be reordered once sent, so priority, fairness between owners and agents' limits are decided here,
in Postgres, over a backlog that stays there.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from app import publisher
from app.db import Db, after_commit
from app.prepared import prepared
from app.queues import Queue
from app.settings import settings
from app.tasks.dispatch import Queued, envelopes
from app.tasks.types import TASK_TYPES
from app.workflows import canvas
from app.workflows.carry import carry

#: Rows admitted in one transaction.
BATCH = 500
#: Seconds until an envelope that nobody claimed is sent again; later ones back off (recover.py).
REDISPATCH_S = 30

# One admission at a time, so that counts of what is queued hold until commit; each statement here sees what the one
# before it waited for. The planner would rather fetch and sort all that is pending than walk along the index (27 ms
# instead of 2 over 30,000), so for the walk sorting is made to look costly. The commit does not wait for the disk: if a
# crash takes it back, the tasks are pending again, and whoever claims one of them writes this down with the claim.
_LOAD = prepared(
    "admit_load",
    """
    WITH load AS (
        SELECT queue, assigned_to, count(*) FILTER (WHERE status = 'queued') AS queued, count(*) AS in_flight
        FROM tasks WHERE status IN ('queued', 'running') GROUP BY queue, assigned_to
    )
    SELECT a.id, a.agent_type, a.configuration,
           (SELECT coalesce(sum(in_flight), 0)::int FROM load WHERE assigned_to = a.id) AS in_flight,
           (SELECT jsonb_object_agg(q.queue, q.queued)
            FROM (SELECT queue, sum(queued) AS queued FROM load GROUP BY queue) AS q) AS queued
    FROM agents a WHERE a.status = 'active' ORDER BY a.id
    """,
    before="""
    SELECT pg_advisory_xact_lock(hashtext('clawq.admit'));
    SET LOCAL enable_sort = off;
    SET LOCAL synchronous_commit = off;
    """,
)
# The head of each owner's line, by priority; then owners take turns. `open` are the agents and roles that take a type
# now: what nobody takes must not fill the batch and hold up what follows. Each LATERAL is one walk along
# tasks_idx_admissible; the recursion finds the owners by jumping from one to the next in the same index.
_CANDIDATES = prepared(
    "admit_candidates",
    """
    WITH RECURSIVE open AS MATERIALIZED (
        SELECT * FROM unnest(CAST(:pinned AS bool[]), CAST(:places AS text[]), CAST(:task_types AS text[]))
    ), owners AS (
        SELECT q.queue, (SELECT owner FROM tasks WHERE status = 'pending' AND deps_left = 0 AND carrier = 'gateway'
                         AND queue = q.queue ORDER BY owner LIMIT 1) AS owner
        FROM unnest(CAST(:queues AS text[])) AS q (queue)
        UNION ALL
        SELECT o.queue, (SELECT owner FROM tasks WHERE status = 'pending' AND deps_left = 0 AND carrier = 'gateway'
                         AND queue = o.queue AND owner > o.owner ORDER BY owner LIMIT 1)
        FROM owners o WHERE o.owner IS NOT NULL
    ), heads AS (
        SELECT t.*, row_number() OVER (PARTITION BY t.queue, t.owner, t.priority_rank
                                       ORDER BY t.available_at, t.id) AS turn
        FROM owners o CROSS JOIN (VALUES (0), (1), (2)) AS r (rank)
        CROSS JOIN LATERAL (
            SELECT id, queue, owner, task_type, assigned_to, priority_rank, available_at
            FROM tasks
            WHERE status = 'pending' AND deps_left = 0 AND carrier = 'gateway'
              AND queue = o.queue AND owner = o.owner AND priority_rank = r.rank AND available_at <= now()
              AND (assigned_to IS NOT NULL, coalesce(assigned_to, o.queue), task_type) IN (SELECT * FROM open)
            ORDER BY available_at, id LIMIT :limit
        ) t
        WHERE o.owner IS NOT NULL
    )
    SELECT id, queue, task_type, assigned_to FROM heads ORDER BY priority_rank, turn, available_at, id LIMIT :limit
    """,
)
_QUEUE = prepared(
    "admit_queue",
    """
    WITH locked AS (
        SELECT t.id, t.status, t.carrier, n.agent
        FROM unnest(CAST(:ids AS text[]), CAST(:agents AS text[])) AS n (id, agent) JOIN tasks t USING (id)
        ORDER BY t.mapped_from IS NULL, t.id FOR UPDATE OF t
    ), u AS (
        UPDATE tasks t
        SET status = 'queued', assigned_to = locked.agent, dispatches = 1, last_dispatched_at = now(),
            next_dispatch_at = now() + :redispatch_s * interval '1 second', last_seq = last_seq + 1, updated_at = now()
        FROM locked WHERE t.id = locked.id AND locked.status = 'pending' AND locked.carrier = 'gateway'
        RETURNING t.id, t.queue, t.task_type, octet_length(t.payload::text) AS payload_bytes, t.workflow_id, t.last_seq,
                  t.round, t.attempt, t.assigned_to
    ), e AS (
        INSERT INTO events (task_id, seq, kind, round, attempt, data)
        SELECT id, last_seq, 'queued', round, attempt, jsonb_build_object('queue', queue, 'agent', assigned_to) FROM u
    )
    SELECT id, queue, task_type, payload_bytes, workflow_id FROM u
    """,
    before="SET LOCAL enable_sort = on;",
)


@dataclass
class Desk:
    """An active agent and how much it may still take on."""

    id: str
    agent_type: str
    task_types: frozenset[str] | None
    room: float
    load: int

    def takes(self, task_type: str) -> bool:
        """Whether the agent's policy and limit allow one more task of this type."""
        return self.room > 0 and (self.task_types is None or task_type in self.task_types)


@dataclass(frozen=True)
class Admission:
    """What one admission did."""

    #: Tasks that were queued.
    admitted: int
    #: Whether a full batch was considered, so that more may be waiting.
    more: bool


def admit(db: Db) -> Admission:
    """Queue up to BATCH pending tasks and send their envelopes after commit."""
    agents = db.execute(_LOAD).all()
    room = _room(agents)
    desks = [_desk(row) for row in agents]
    considered = _candidates(db, room, desks)
    picks = assign(considered, room, desks)
    if picks:
        params = {"ids": list(picks), "agents": list(picks.values()), "redispatch_s": REDISPATCH_S}
        rows = [Queued(*row) for row in db.execute(_QUEUE, params)]
        after_commit(db, "send", partial(publisher.send, list(envelopes(_alone(db, rows)))))
        publisher.tell_after(db, [row.id for row in rows])
    return Admission(admitted=len(picks), more=len(considered) == BATCH and bool(picks))


def _alone(db: Db, rows: Sequence[Queued]) -> Sequence[Queued]:
    """Send off the tasks from which a chain or chord goes on. Returns the others."""
    mine = [row for row in rows if row.workflow_id]
    if not mine:
        return rows
    planned = carry(db, mine)
    after_commit(db, "canvas", partial(canvas.send, canvas.canvases(planned, mine)))
    gone = planned.plan.starting
    return [row for row in rows if row.id not in gone]


def assign(candidates: Iterable[Any], room: dict[str, int], desks: Sequence[Desk]) -> dict[str, str]:
    """Pick an agent for each candidate while its queue has room.

    Args:
        candidates: rows with `id`, `queue`, `task_type` and `assigned_to`, best first.
        room: how many more tasks each queue holds.
        desks: the active agents.

    Returns:
        Task id → agent id. An unassigned task goes to the least loaded agent of its queue's role; one that no
        agent takes is left out and stays pending.
    """
    by_id = {desk.id: desk for desk in desks}
    left = dict(room)
    picks: dict[str, str] = {}
    for task in candidates:
        if left[task.queue] <= 0:
            continue
        if task.assigned_to:
            open_desks = [by_id[task.assigned_to]] if task.assigned_to in by_id else []
        else:
            open_desks = [desk for desk in desks if desk.agent_type == task.queue]
        takers = [desk for desk in open_desks if desk.takes(task.task_type)]
        if not takers:
            continue
        desk = min(takers, key=lambda d: d.load)
        desk.load += 1
        desk.room -= 1
        left[task.queue] -= 1
        picks[task.id] = desk.id
    return picks


def _room(agents: Sequence[Any]) -> dict[str, int]:
    """How many more tasks each queue holds. Without agents there is nobody to admit to."""
    queued: dict[str, int] = agents[0].queued or {} if agents else {}
    return {queue: settings().window - queued.get(queue, 0) for queue in Queue}


def _desk(row: Any) -> Desk:
    policy = row.configuration or {}
    types = policy.get("task_types")
    limit = policy.get("max_running")
    return Desk(
        id=row.id,
        agent_type=row.agent_type,
        task_types=None if types is None else frozenset(types),
        room=float("inf") if limit is None else limit - row.in_flight,
        load=row.in_flight,
    )


def _candidates(db: Db, room: dict[str, int], desks: Sequence[Desk]) -> Sequence[Any]:
    manned = {desk.agent_type for desk in desks}
    takers = [(desk, task_type) for desk in desks for task_type in TASK_TYPES if desk.takes(task_type)]
    places = {(True, desk.id, task_type) for desk, task_type in takers}
    places |= {(False, desk.agent_type, task_type) for desk, task_type in takers}
    params = {
        "queues": [queue for queue, free in room.items() if free > 0 and queue in manned],
        "pinned": [pinned for pinned, _, _ in places],
        "places": [place for _, place, _ in places],
        "task_types": [task_type for _, _, task_type in places],
        "limit": BATCH,
    }
    return db.execute(_CANDIDATES, params).all() if params["queues"] else ()
