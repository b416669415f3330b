"""Report: what a running attempt says of itself, fenced by the attempt."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from app import publisher
from app.db import Db
from app.prepared import prepared
from schema.tasks import EventKind

# Nothing is decided by these: the disk may have them a moment later.
_SOON = "SET LOCAL synchronous_commit = off;"
_REPORT = prepared(
    "report",
    """
    WITH u AS (
        UPDATE tasks SET last_seq = last_seq + cardinality(CAST(:kinds AS text[])),
                         progress = coalesce(:progress, progress), updated_at = now()
        WHERE id = :id AND attempt = :attempt AND status = 'running'
        RETURNING id, last_seq - cardinality(CAST(:kinds AS text[])) AS seq, round, attempt
    )
    INSERT INTO events (task_id, seq, kind, round, attempt, data)
    SELECT u.id, u.seq + n.place, n.kind, u.round, u.attempt, n.data::jsonb
    FROM u, unnest(CAST(:kinds AS text[]), CAST(:data AS text[])) WITH ORDINALITY AS n (kind, data, place)
    RETURNING task_id
    """,
    before=_SOON,
)
_CONTAINER = prepared(
    "container",
    """
    UPDATE attempts a SET container_id = :container_id FROM tasks t
    WHERE a.task_id = :id AND a.attempt = :attempt
      AND t.id = a.task_id AND t.attempt = a.attempt AND t.status = 'running' RETURNING a.task_id
    """,
    before=_SOON,
)


def report(db: Db, task_id: str, attempt: int, events: Sequence[tuple[EventKind, dict[str, Any]]]) -> bool:
    """Append log and progress events, and move the task's progress to that of the last progress event.

    Returns:
        Whether the attempt is still ours; if not, nothing was written.
    """
    progress = [data["progress"] for kind, data in events if kind == EventKind.PROGRESS]
    params = {
        "id": task_id,
        "attempt": attempt,
        "kinds": [kind for kind, _ in events],
        "data": [json.dumps(data) for _, data in events],
        "progress": progress[-1] if progress else None,
    }
    ours = db.execute(_REPORT, params).first() is not None
    if ours:
        publisher.tell_after(db, [task_id])
    return ours


def record_container(db: Db, task_id: str, attempt: int, container_id: str) -> bool:
    """Note which container or process runs an attempt, before any code is sent to it. False: no longer ours."""
    params = {"id": task_id, "attempt": attempt, "container_id": container_id}
    return db.execute(_CONTAINER, params).first() is not None
