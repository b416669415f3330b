"""Claim: take queued tasks for this worker, each under a new attempt and a lease."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from app import publisher
from app.db import Db, after_commit
from app.prepared import prepared
from app.settings import settings
from app.tasks.types import TASK_TYPES

# FOR UPDATE waits: SKIP LOCKED would drop the envelope of a row that is locked for a millisecond. Here and in the other
# verbs over many ids, the state is looked at in the locked rows, not in a WHERE of the tasks: with the statistics of a
# moment ago the planner would take the index on status, and compare every id with every row in that state.
# What earlier attempts left behind goes here, the one place that all later attempts come by.
_CLAIM = prepared(
    "claim",
    """
    WITH locked AS (
        SELECT id, status FROM tasks WHERE id = ANY(:ids) ORDER BY mapped_from IS NULL, id FOR UPDATE
    ), u AS (
        UPDATE tasks t
        SET status = 'running', attempt = attempt + 1, lease_owner = :worker, progress = 0,
            lease_until = now() + :lease_s * interval '1 second', next_dispatch_at = NULL, error = NULL,
            started_at = now(), last_seq = last_seq + 1, updated_at = now()
        FROM locked
        WHERE t.id = locked.id AND locked.status = 'queued' AND t.task_type = ANY(:known)
          AND (t.deadline IS NULL OR t.deadline > now())
        RETURNING t.*
    ), a AS (
        INSERT INTO attempts (task_id, attempt, round, worker) SELECT id, attempt, round, :worker FROM u
    ), e AS (
        INSERT INTO events (task_id, seq, kind, round, attempt, data)
        SELECT id, last_seq, 'running', round, attempt, jsonb_build_object('worker', CAST(:worker AS text)) FROM u
    ), g AS (
        DELETE FROM artifacts WHERE task_id = ANY (ARRAY(SELECT id FROM u WHERE attempt > 1))
    )
    SELECT id, attempt, owner, task_type, payload, failures, infra_failures, max_attempts, deadline,
           CASE WHEN task_type = ANY(:sandboxed)
                THEN (SELECT configuration->'sandbox' FROM agents a WHERE a.id = u.assigned_to) END AS sandbox, retry,
           EXISTS (SELECT FROM tasks WHERE status = 'pending' AND deps_left = 0 AND carrier = 'gateway'
                   AND available_at <= now()) AS backlog
    FROM u
    """,
)


@dataclass(frozen=True)
class Claim:
    """A task that is ours to run, fenced by its attempt."""

    id: str
    #: The fencing token: whatever is written about this run says which attempt it was.
    attempt: int
    owner: str
    task_type: str
    payload: dict[str, Any]
    #: Failures so far in this round: of the program, and of workers or sandboxes.
    failures: int
    infra_failures: int
    max_attempts: int
    deadline: datetime | None
    #: What the agent's configuration says of sandboxes: {"images": {task type: image}, "runtime": name,
    #: "limits": {name: most}}, all optional.
    sandbox: dict[str, Any] | None = None
    #: The waits between its tries: `delay_s`, `factor`, `max_delay_s`; None: as usual (retry.py).
    retry: dict[str, float] | None = None


def claim(db: Db, ids: Sequence[str], worker: str) -> list[Claim]:
    """Claim those of `ids` that are still queued.

    The others (a repeated envelope, a cancelled task, one past its deadline or of a newer version's type) are left
    alone, quietly. If more is
    pending, the gateway is rung: there is room now.
    """
    params = {
        "ids": list(ids),
        "worker": worker,
        "lease_s": settings().lease_s,
        "known": list(TASK_TYPES),
        "sandboxed": [name for name, kind in TASK_TYPES.items() if not kind.inline],
    }
    rows = db.execute(_CLAIM, params).all()
    if rows:
        publisher.tell_after(db, [row.id for row in rows])
    if any(row.backlog for row in rows):
        after_commit(db, "ring", publisher.ring)
    return [Claim(*row[:-1]) for row in rows]
