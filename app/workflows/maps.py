"""Maps: one task for each element of a list, and one result of them all."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from sqlalchemy import text

from app.db import Db
from app.tasks.submit import connect
from app.workflows import refs
from app.workflows.graph import MAX_ITEMS
from app.workflows.payloads import made
from app.workflows.refs import Scope, Unresolved
from app.workflows.unstarted import End
from schema.base import new_id
from schema.tasks import TaskStatus

#: Items of all maps of a workflow together.
MAX_ALL_ITEMS = 10_000
#: Bytes of all items' payloads together.
MAX_ITEMS_BYTES = 32 * 2**20
#: Bytes of all items' results together, as of the files of a task.
MAX_RESULT_BYTES = 32 * 2**20

#: Items that are written together.
_BATCH = 50

# What ends badly is no reason to stop the others: the task that they are items of tells.
_INSERT = text(
    """
    WITH t AS (
        INSERT INTO tasks (id, owner, workflow_id, session_id, key, mapped_from, position, task_type, description,
                           payload, labels, priority, queue, assigned_to, pinned, on_failure, deadline, max_attempts,
                           retry, carrier, last_seq)
        SELECT n.id, m.owner, m.workflow_id, m.session_id, m.key || '[' || n.position || ']', m.id, n.position,
               m.task_type, m.description, n.payload, m.labels, m.priority, m.queue,
               CASE WHEN m.pinned THEN m.assigned_to END, m.pinned, 'continue', m.deadline, m.max_attempts, m.retry,
               'coordinator', 1
        FROM tasks m, (
            SELECT id, payload::jsonb AS payload, :start + place - 1 AS position
            FROM unnest(CAST(:ids AS text[]), CAST(:payloads AS text[])) WITH ORDINALITY AS i (id, payload, place)
        ) AS n
        WHERE m.id = :id
        RETURNING id
    )
    INSERT INTO events (task_id, seq, kind, round, attempt) SELECT id, 1, 'accepted', 1, 0 FROM t
    """
)
_MADE = text(
    """
    SELECT count(*) FROM tasks
    WHERE mapped_from IS NOT NULL AND workflow_id = (SELECT workflow_id FROM tasks WHERE id = :id)
    """
)
_WAIT = text(
    """
    UPDATE tasks SET deps_left = :items, rules = rules || jsonb_build_object('expanded', CAST(:items AS int)),
                     started_at = now(), updated_at = now()
    WHERE id = :id
    """
)
_ITEMS = text(
    """
    SELECT key, status, octet_length(result::text) AS size FROM tasks
    WHERE mapped_from = :id ORDER BY position
    """
)
_RESULTS = text("SELECT status, result FROM tasks WHERE mapped_from = :id ORDER BY position")


def map_task(db: Db, row: Any, scope: Scope) -> End | None:
    """Make the items of a task, or collect them once they have ended. Returns its end, if that is now.

    Raises:
        Unresolved: its list is none, or too long, or a payload's reference leads nowhere.
        Invalid: an item's payload does not suit the task type.
    """
    if "expanded" in row.rules:
        return _collect(db, row)
    elements = _elements(db, row, scope)
    if not elements:
        return End(row.id, TaskStatus.SUCCEEDED, result={"items": []})
    with db.begin_nested():
        _expand(db, row, elements, scope)
    return None


def _elements(db: Db, row: Any, scope: Scope) -> list[Any]:
    elements = refs.resolve(row.rules["map"], scope)
    if not isinstance(elements, list):
        raise Unresolved("`map` takes a list, and this is none")
    if len(elements) > MAX_ITEMS:
        raise Unresolved(f"`map` makes at most {MAX_ITEMS} items, and the list has {len(elements)}")
    if len(elements) + db.execute(_MADE, {"id": row.id}).scalar_one() > MAX_ALL_ITEMS:
        raise Unresolved(f"the maps of a workflow make at most {MAX_ALL_ITEMS} items together")
    return elements


def _expand(db: Db, row: Any, elements: list[Any], scope: Scope) -> None:
    """Write items a few at a time: Postgres ends a transaction that lets it wait for long."""
    ids = sorted(new_id() for _ in elements)
    left = MAX_ITEMS_BYTES
    for start in range(0, len(ids), _BATCH):
        payloads = []
        for place, element in enumerate(elements[start : start + _BATCH], start):
            payload = made(row.rules["payload"], row.task_type, replace(scope, item=element, index=place))
            left -= len(payload)
            if left < 0:
                raise Unresolved(f"the items' payloads are larger than {MAX_ITEMS_BYTES >> 20} MiB together")
            payloads.append(payload)
        db.execute(_INSERT, {"id": row.id, "ids": ids[start : start + _BATCH], "start": start, "payloads": payloads})
    connect(db, ((task_id, row.id) for task_id in ids))
    db.execute(_WAIT, {"id": row.id, "items": len(ids)})


def _collect(db: Db, row: Any) -> End:
    items = db.execute(_ITEMS, {"id": row.id}).all()
    lost = [item.key for item in items if item.status != TaskStatus.SUCCEEDED]
    error = f"{len(lost)} of {len(items)} items did not succeed: {', '.join(lost[:5])}." if lost else None
    if sum(item.size or 0 for item in items) > MAX_RESULT_BYTES:
        too_large = f"The items' results are larger than {MAX_RESULT_BYTES >> 20} MiB together."
        return End(row.id, TaskStatus.FAILED, too_large)
    results = [r.result if r.status == TaskStatus.SUCCEEDED else None for r in db.execute(_RESULTS, {"id": row.id})]
    return End(row.id, TaskStatus.FAILED if lost else TaskStatus.SUCCEEDED, error, {"items": results})
