"""Insert: the tasks of a workflow, with their first events."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from sqlalchemy import text

from app.db import Db

#: Rows in one statement.
_BATCH = 1000

# All wait for the coordinator to let them go.
_INSERT = text(
    """
    WITH t AS (
        INSERT INTO tasks (id, owner, workflow_id, session_id, key, task_type, description, payload, rules,
                           labels, priority, queue, assigned_to, pinned, dependencies, deps_left, on_failure,
                           deadline, max_attempts, retry, available_at, carrier, last_seq)
        SELECT n.id, w.owner, w.id, w.session_id, n.key, n.task_type, n.description,
               n.payload, n.rules, n.labels, n.priority, n.queue, n.assigned_to, n.assigned_to IS NOT NULL,
               n.dependencies, n.deps_left, n.on_failure, least(n.deadline, w.deadline), n.max_attempts, n.retry,
               now() + n.delay_s * interval '1 second', 'coordinator', 1
        FROM workflows w, jsonb_to_recordset(CAST(:rows AS jsonb)) AS n (
            id text, key text, task_type text, description text, payload jsonb,
            rules jsonb, labels jsonb, priority text, queue text, assigned_to text, dependencies jsonb, deps_left int,
            on_failure text, deadline timestamptz, max_attempts int, retry jsonb, delay_s float8)
        WHERE w.id = :workflow_id
        RETURNING id
    )
    INSERT INTO events (task_id, seq, kind, round, attempt) SELECT id, 1, 'accepted', 1, 0 FROM t
    """
)


def insert(db: Db, workflow_id: str, rows: Sequence[dict[str, Any]]) -> None:
    """Write tasks, `rows` as `_INSERT` names their columns; what a row does not hold is null."""
    for start in range(0, len(rows), _BATCH):
        db.execute(_INSERT, {"workflow_id": workflow_id, "rows": json.dumps(rows[start : start + _BATCH])})
