"""Workflows and their tasks in any state, put into the tables without the verbs that lead there."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from schema.base import new_id
from tests.support import OWNER, sql

_JSON = ("payload", "result", "document", "input", "labels", "dependencies", "rules")
#: Values that are SQL, such as times relative to now().
_SQL = ("started_at", "completed_at", "created_at", "cancel_requested_at")


def workflow(status: str = "running", **columns: Any) -> str:
    """A workflow; returns its id."""
    values = {"id": new_id(), "owner": OWNER, "name": "nightly", "status": status, "document": {"name": "nightly"}}
    return _insert("workflows", values | columns)


def member(workflow_id: str, key: str, status: str = "pending", *, after: Sequence[str] = (), **columns: Any) -> str:
    """A task of a workflow that waits for those in `after` (ids); returns its id."""
    values: dict[str, Any] = {
        "id": new_id(), "owner": OWNER, "workflow_id": workflow_id, "key": key, "status": status, "task_type": "echo",
        "description": "", "payload": {}, "queue": "execution", "carrier": "coordinator",
        "dependencies": list(after) or None,
    }  # fmt: skip
    return _insert("tasks", values | columns)


def item(workflow_id: str, map_id: str, key: str, position: int, status: str = "pending", **columns: Any) -> str:
    """An item of a map; returns its id."""
    return member(workflow_id, f"{key}[{position}]", status, mapped_from=map_id, position=position, **columns)


def _insert(table: str, values: dict[str, Any]) -> str:
    shown = ", ".join(str(values[name]) if name in _SQL else f":{name}" for name in values)
    given = {
        name: json.dumps(value) if name in _JSON and value is not None else value
        for name, value in values.items()
        if name not in _SQL
    }
    sql(f"INSERT INTO {table} ({', '.join(values)}) VALUES ({shown})", **given)
    return str(values["id"])
