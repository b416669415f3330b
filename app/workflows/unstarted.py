"""Unstarted: tasks that end without having been run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import text

from app.db import Db
from app.tasks.finish import after_end
from app.tasks.release import Ended
from schema.tasks import TaskStatus

_END = text(
    """
    WITH u AS (
        UPDATE tasks t SET status = n.status, error = n.error, result = n.result::jsonb, completed_at = now(),
                           progress = CASE n.status WHEN 'succeeded' THEN 100 ELSE t.progress END,
                           last_seq = last_seq + 1, updated_at = now()
        FROM unnest(CAST(:ids AS text[]), CAST(:statuses AS text[]), CAST(:errors AS text[]), CAST(:results AS text[]))
             AS n (id, status, error, result)
        WHERE t.id = n.id AND t.status = 'pending'
        RETURNING t.id, t.status, t.workflow_id, t.last_seq, t.round, t.attempt, t.error
    ), e AS (
        INSERT INTO events (task_id, seq, kind, round, attempt, data)
        SELECT id, last_seq, status, round, attempt, jsonb_strip_nulls(jsonb_build_object('error', error)) FROM u
    )
    SELECT id, status, workflow_id FROM u
    """
)


@dataclass(frozen=True)
class End:
    """How a task ends that is pending."""

    id: str
    status: TaskStatus
    error: str | None = None
    result: dict[str, Any] | None = None


def finish_unstarted(db: Db, ends: Sequence[End]) -> None:
    """End tasks that are pending; the caller has locked them."""
    if not ends:
        return
    params = {
        "ids": [end.id for end in ends],
        "statuses": [end.status for end in ends],
        "errors": [end.error for end in ends],
        "results": [None if end.result is None else json.dumps(end.result) for end in ends],
    }
    after_end(db, [Ended(*row) for row in db.execute(_END, params)])
