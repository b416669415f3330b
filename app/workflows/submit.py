"""Submit: write a workflow and its tasks, and ask the coordinator to begin after commit."""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy import text

from app import publisher
from app.db import Db
from app.tasks.check import Known
from app.tasks.submit import connect, queue_of
from app.workflows import graph, refs
from app.workflows.asked import NewStep, NewWorkflow
from app.workflows.check import check
from app.workflows.insert import insert
from schema.base import new_id

_INSERT = text(
    """
    INSERT INTO workflows (id, owner, name, description, document, input, labels, max_running, deadline, session_id,
                           rerun_of)
    VALUES (:id, :owner, :name, :description, CAST(:document AS jsonb), CAST(:input AS jsonb), CAST(:labels AS jsonb),
            :max_running, :deadline, :session_id, :rerun_of)
    """
)


def submit(db: Db, owner: str, new: NewWorkflow, *, rerun_of: str | None = None) -> str:
    """Accept a workflow for `owner`, whole or not at all. Returns its id.

    Args:
        rerun_of: the workflow that this one runs again.

    Raises:
        NotFound: its session does not exist, or is another owner's.
        Invalid: anything else is not acceptable; each problem's `loc` leads into the document.
    """
    known = check(db, owner, new)
    workflow_id = new_id()
    db.execute(
        _INSERT,
        {
            "id": workflow_id,
            "owner": owner,
            "name": new.name,
            "description": new.description,
            "document": json.dumps(new.document),
            "input": json.dumps(new.input),
            "labels": json.dumps(new.labels),
            "max_running": new.max_running,
            "deadline": new.deadline,
            "session_id": new.session_id,
            "rerun_of": rerun_of,
        },
    )
    steps = graph.order(new.tasks)
    # In the order of the graph: who locks in the order of ids locks parents before children.
    ids = dict(zip((step.key for step in steps), sorted(new_id() for _ in steps), strict=True))
    insert(db, workflow_id, [_row(step, ids, known) for step in steps])
    connect(db, ((ids[parent], ids[step.key]) for step in steps for parent in step.depends_on))
    publisher.advance_after(db, [workflow_id])
    return workflow_id


def _row(step: NewStep, ids: dict[str, str], known: Known) -> dict[str, Any]:
    return {
        "id": ids[step.key],
        "key": step.key,
        "task_type": step.task_type,
        "description": step.description,
        "payload": step.payload,
        "rules": _rules(step),
        "labels": step.labels,
        "priority": step.priority,
        "queue": queue_of(step.task_type, step.assigned_to, known),
        "assigned_to": step.assigned_to,
        "dependencies": [ids[parent] for parent in step.depends_on] or None,
        "deps_left": len(step.depends_on),
        "on_failure": step.on_failure,
        "deadline": step.deadline and step.deadline.isoformat(),
        "max_attempts": step.max_attempts,
        "retry": step.retry,
        "delay_s": step.delay_s,
    }


def _rules(step: NewStep) -> dict[str, Any] | None:
    """What is looked at when it is about to start (prepare.py)."""
    rules: dict[str, Any] = {}
    if step.when is not None:
        rules["when"] = step.when
    if step.map is not None:
        rules["map"] = step.map
    if step.map is not None or refs.has_refs(step.payload):
        rules["payload"] = step.payload
    return rules or None
