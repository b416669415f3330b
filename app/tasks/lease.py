"""Lease: a worker's hold on what it runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import text

from app.db import Db
from app.settings import settings

_LOOK = text(
    """
    SELECT t.id, t.attempt, t.cancel_requested_at IS NOT NULL AS cancelled,
           coalesce(t.deadline <= now(), false) AS overdue
    FROM tasks t JOIN unnest(CAST(:ids AS text[]), CAST(:attempts AS int[])) AS n (id, attempt) USING (id, attempt)
    WHERE t.status = 'running'
    """
)
_EXTEND = text(
    """
    UPDATE tasks t SET lease_until = now() + :lease_s * interval '1 second'
    FROM unnest(CAST(:ids AS text[]), CAST(:attempts AS int[])) AS n (id, attempt)
    WHERE t.id = n.id AND t.attempt = n.attempt AND t.status = 'running'
    """
)


#: Task id and attempt. A worker may hold an old attempt, not yet stopped, beside the new one at the same task.
Fence = tuple[str, int]


@dataclass(frozen=True)
class Held:
    """What Postgres says of an attempt that is still ours."""

    cancelled: bool
    overdue: bool


def look(db: Db, held: Sequence[Fence]) -> dict[Fence, Held]:
    """See which of `held` are still ours and whether they are to stop. One that is missing is lost."""
    return {(row.id, row.attempt): Held(row.cancelled, row.overdue) for row in db.execute(_LOOK, _params(held))}


def heartbeat(db: Db, held: Sequence[Fence]) -> dict[Fence, Held]:
    """Extend the leases of `held` by `lease_s` from now, then `look`."""
    db.execute(_EXTEND, {**_params(held), "lease_s": settings().lease_s})
    return look(db, held)


def _params(held: Sequence[Fence]) -> dict[str, list[Any]]:
    return {"ids": [task_id for task_id, _ in held], "attempts": [attempt for _, attempt in held]}
