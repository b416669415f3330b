"""Payloads: made of a template and of what its references bring, when a task is about to start."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from sqlalchemy import text

from app.db import Db
from app.storable import check_storable
from app.tasks.types import check_payload
from app.workflows import refs
from app.workflows.refs import Scope, TaskView, Unresolved

#: Bytes of a payload once it is made, as of one that is posted.
MAX_PAYLOAD_BYTES = 16 * 2**20
#: Bytes of the results that a task refers to, as text: they are in memory together.
MAX_SCOPE_BYTES = 64 * 2**20

_WORKFLOW = text("SELECT id, name, input FROM workflows WHERE id = :id")
# What a program printed before it failed is for people. A task with `map` has the items that succeeded.
_RESULT = "CASE WHEN status = 'succeeded' OR jsonb_exists(rules, 'map') THEN result END"
_SIZE = text(
    f"""
    SELECT coalesce(sum(octet_length(({_RESULT})::text)), 0) FROM tasks
    WHERE workflow_id = :workflow_id AND key = ANY(:keys)
    """  # noqa: S608
)
_TASKS = text(
    f"""
    SELECT key, status, CASE WHEN key = ANY(:wanted) THEN {_RESULT} END AS result FROM tasks
    WHERE workflow_id = :workflow_id AND key = ANY(:keys)
    """  # noqa: S608
)


def made(template: Any, task_type: str, scope: Scope) -> str:
    """A payload with its references replaced, as JSON.

    Raises:
        Unresolved: a reference leads nowhere, or what they bring is too large.
        Invalid: it does not suit the task type.
    """
    payload = refs.resolve(template, scope)
    check_storable(payload)
    check_payload(task_type, payload)
    written = json.dumps(payload)
    if len(written) > MAX_PAYLOAD_BYTES:
        raise Unresolved(f"the payload is larger than {MAX_PAYLOAD_BYTES >> 20} MiB")
    return written


def scope_of(db: Db, workflow_id: str, rules: Sequence[dict[str, Any]]) -> Scope:
    """What the rules of some tasks can name; results only where they are named.

    Raises:
        Unresolved: those results are too large to be held together.
    """
    written = [rule.get(name) for rule in rules for name in ("payload", "map", "when")]
    keys, wanted = sorted(refs.task_keys(written)), sorted(refs.result_keys(written))
    workflow = db.execute(_WORKFLOW, {"id": workflow_id}).one()
    params = {"workflow_id": workflow_id, "keys": wanted}
    if wanted and db.execute(_SIZE, params).scalar_one() > MAX_SCOPE_BYTES:
        raise Unresolved(f"the results that it refers to are larger than {MAX_SCOPE_BYTES >> 20} MiB together")
    rows = db.execute(_TASKS, {**params, "keys": keys, "wanted": wanted}).all() if keys else []
    return Scope(
        input=workflow.input,
        tasks={row.key: TaskView(row.status, row.result) for row in rows},
        workflow={"id": workflow.id, "name": workflow.name},
    )
