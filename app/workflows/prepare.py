"""Prepare: what a task's rules say is done when its parents have ended and it is about to start.

`when` may skip it, references are replaced in its payload (payloads.py), and `map` makes items of it (maps.py).
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from app.db import Db
from app.errors import Invalid
from app.workflows import conditions
from app.workflows.maps import map_task
from app.workflows.payloads import made, scope_of
from app.workflows.refs import Scope, Unresolved
from app.workflows.unstarted import End, finish_unstarted
from schema.tasks import TaskStatus

log = logging.getLogger(__name__)

#: Tasks whose parents' results are held in memory together, if they are not too large for that.
_BATCH = 20

_PAYLOAD = text("UPDATE tasks SET payload = CAST(:payload AS jsonb) WHERE id = :id")


def prepare(db: Db, workflow_id: str, rows: Sequence[Any]) -> None:
    """Do what the rules of tasks say, in whose rows `id`, `task_type` and `rules` are; the caller has locked them."""
    for start in range(0, len(rows), _BATCH):
        _prepare_some(db, workflow_id, rows[start : start + _BATCH])


def _prepare_some(db: Db, workflow_id: str, rows: Sequence[Any]) -> None:
    try:
        scope = scope_of(db, workflow_id, [row.rules for row in rows])
    except Unresolved as exc:
        if len(rows) == 1:
            finish_unstarted(db, [_failed(rows[0], exc)])
            return
        for row in rows:
            _prepare_some(db, workflow_id, [row])
        return
    finish_unstarted(db, [end for row in rows if (end := _prepare(db, row, scope))])


def _prepare(db: Db, row: Any, scope: Scope) -> End | None:
    """Its end, if that is now. Nothing that its document says may keep its workflow from being looked at."""
    try:
        return _apply(db, row, scope)
    except SQLAlchemyError:
        raise
    except Exception as exc:  # noqa: BLE001
        return _failed(row, exc)


def _apply(db: Db, row: Any, scope: Scope) -> End | None:
    rules = row.rules
    if "when" in rules and "expanded" not in rules and not conditions.holds(rules["when"], scope):
        return End(row.id, TaskStatus.SKIPPED, "Its condition does not hold.")
    if "map" in rules:
        return map_task(db, row, scope)
    if "payload" in rules:
        db.execute(_PAYLOAD, {"id": row.id, "payload": made(rules["payload"], row.task_type, scope)})
    return None


def _failed(row: Any, exc: Exception) -> End:
    if isinstance(exc, Unresolved):
        why = f"Its references cannot be resolved: {exc}"
    elif isinstance(exc, Invalid):
        why = f"Its payload is not acceptable: {_first(exc)}"
    else:
        log.error("a task could not be prepared", exc_info=exc, extra={"task_id": row.id})
        why = f"It could not be prepared: {type(exc).__name__}."
    return End(row.id, TaskStatus.FAILED, why)


def _first(exc: Invalid) -> str:
    if not exc.problems:
        return exc.detail
    problem = exc.problems[0]
    return f"{'.'.join(str(part) for part in problem.loc)}: {problem.msg}"
