"""Prepare: what a task's rules say is done when its parents have ended and it is about to start.

`when` may skip it, references are replaced in its payload, and `map` makes items of it (maps.py).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import text

from app.db import Db
from app.errors import Invalid
from app.storable import check_storable
from app.tasks.finish import after_end
from app.tasks.release import Ended
from app.tasks.types import check_payload
from app.workflows import conditions, refs
from app.workflows.refs import Scope, TaskView, Unresolved
from schema.tasks import TaskStatus

#: Bytes of a payload once it is made, as of one that is posted.
MAX_PAYLOAD_BYTES = 16 * 2**20
#: Tasks whose parents' results are held in memory together.
_BATCH = 20

# What a program printed before it failed is for people. A task with `map` has the items that succeeded.
_SCOPE = text(
    """
    SELECT t.key, t.status, CASE WHEN t.status = 'succeeded' OR jsonb_exists(t.rules, 'map') THEN t.result END AS result
    FROM tasks t
    WHERE t.workflow_id = :workflow_id AND t.key = ANY(:keys)
    """
)
_WORKFLOW = text("SELECT id, name, input FROM workflows WHERE id = :id")
_PAYLOADS = text(
    """
    UPDATE tasks t SET payload = n.payload::jsonb
    FROM unnest(CAST(:ids AS text[]), CAST(:payloads AS text[])) AS n (id, payload) WHERE t.id = n.id
    """
)
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
    """A task that ends without having been started."""

    id: str
    status: TaskStatus
    error: str | None = None
    result: dict[str, Any] | None = None


#: Makes items of a task with `map`, or collects them. Returns its end, if that is now.
Mapper = Callable[[Db, Any, Scope], End | None]


def prepare(db: Db, workflow_id: str, rows: Sequence[Any], mapper: Mapper) -> None:
    """Do what the rules of tasks say, in whose rows `id`, `task_type` and `rules` are; the caller has locked them."""
    ends = []
    for start in range(0, len(rows), _BATCH):
        few = rows[start : start + _BATCH]
        scope = _scope(db, workflow_id, few)
        ends += [end for row in few if (end := _prepare(db, row, scope, mapper))]
    finish_unstarted(db, ends)


def made(template: Any, task_type: str, scope: Scope) -> dict[str, Any]:
    """A payload with its references replaced.

    Raises:
        Unresolved: a reference leads nowhere.
        Invalid: it does not suit the task type.
    """
    payload = refs.resolve(template, scope)
    check_storable(payload)
    check_payload(task_type, payload)
    if len(json.dumps(payload)) > MAX_PAYLOAD_BYTES:
        raise Unresolved(f"the payload is larger than {MAX_PAYLOAD_BYTES >> 20} MiB")
    assert isinstance(payload, dict), "no task type takes anything else"
    return payload


def finish_unstarted(db: Db, ends: Sequence[End]) -> None:
    """End tasks that are pending."""
    if not ends:
        return
    params = {
        "ids": [end.id for end in ends],
        "statuses": [end.status for end in ends],
        "errors": [end.error for end in ends],
        "results": [None if end.result is None else json.dumps(end.result) for end in ends],
    }
    after_end(db, [Ended(*row) for row in db.execute(_END, params)])


def _prepare(db: Db, row: Any, scope: Scope, mapper: Mapper) -> End | None:
    rules = row.rules
    try:
        if "when" in rules and "expanded" not in rules and not conditions.holds(rules["when"], scope):
            return End(row.id, TaskStatus.SKIPPED, "Its condition does not hold.")
        if "map" in rules:
            return mapper(db, row, scope)
        if "payload" in rules:
            payload = made(rules["payload"], row.task_type, scope)
            db.execute(_PAYLOADS, {"ids": [row.id], "payloads": [json.dumps(payload)]})
    except Unresolved as exc:
        return End(row.id, TaskStatus.FAILED, f"Its references cannot be resolved: {exc}")
    except Invalid as exc:
        return End(row.id, TaskStatus.FAILED, f"Its payload is not acceptable: {_first(exc)}")
    return None


def _first(exc: Invalid) -> str:
    if not exc.problems:
        return exc.detail
    problem = exc.problems[0]
    return f"{'.'.join(str(part) for part in problem.loc)}: {problem.msg}"


def _scope(db: Db, workflow_id: str, rows: Iterable[Any]) -> Scope:
    keys = set().union(*(_keys(row.rules) for row in rows))
    workflow = db.execute(_WORKFLOW, {"id": workflow_id}).one()
    seen = db.execute(_SCOPE, {"workflow_id": workflow_id, "keys": sorted(keys)}).all() if keys else []
    return Scope(
        input=workflow.input,
        tasks={row.key: TaskView(row.status, row.result) for row in seen},
        workflow={"id": workflow.id, "name": workflow.name},
    )


def _keys(rules: dict[str, Any]) -> set[str]:
    return refs.task_keys({name: rules.get(name) for name in ("payload", "map")}) | conditions.task_keys(
        rules.get("when", True)
    )
