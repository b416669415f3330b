"""Lease: a worker's hold on what it runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import TextClause, text
from sqlalchemy.orm import Session

from app.settings import settings

_HELD = """
    FROM unnest(CAST(:ids AS text[]), CAST(:attempts AS int[])) AS n (id, attempt)
    WHERE t.id = n.id AND t.attempt = n.attempt AND t.status = 'running'
"""
_STATE = (
    "t.id, t.attempt, t.cancel_requested_at IS NOT NULL AS cancelled, coalesce(t.deadline <= now(), false) AS overdue"
)
_LOOK = text(f"SELECT {_STATE} FROM tasks t, {_HELD.replace('FROM', '', 1)}")  # noqa: S608
_EXTEND = text(
    f"UPDATE tasks t SET lease_until = now() + :lease_s * interval '1 second' {_HELD} RETURNING {_STATE}"  # noqa: S608
)


#: Task id and attempt. A worker may hold an old attempt, not yet stopped, beside the new one at the same task.
Fence = tuple[str, int]


@dataclass(frozen=True)
class Held:
    """What Postgres says of an attempt that is still ours."""

    cancelled: bool
    overdue: bool


def look(db: Session, held: Sequence[Fence]) -> dict[Fence, Held]:
    """See which of `held` are still ours and whether they are to stop."""
    return _read(db, _LOOK, held)


def heartbeat(db: Session, held: Sequence[Fence]) -> dict[Fence, Held]:
    """Extend the leases of `held` by `lease_s` from now; as `look` otherwise. One that is missing is lost."""
    return _read(db, _EXTEND, held)


def _read(db: Session, query: TextClause, held: Sequence[Fence]) -> dict[Fence, Held]:
    params: dict[str, Any] = {"ids": [i for i, _ in held], "attempts": [a for _, a in held]}
    if query is _EXTEND:
        params["lease_s"] = settings().lease_s
    return {(row.id, row.attempt): Held(row.cancelled, row.overdue) for row in db.execute(query, params)}
