"""Reopen: another round of the tasks of a workflow that did not succeed; what succeeded keeps its result."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from sqlalchemy import text

from app import publisher
from app.db import Db
from app.errors import Conflict
from app.workflows.lock import lock
from schema.workflows import WorkflowStatus

_LOST = text(
    """
    SELECT id FROM tasks WHERE workflow_id = :id AND status IN ('failed', 'cancelled', 'skipped')
    ORDER BY mapped_from IS NULL, id FOR UPDATE
    """
)
# Tasks with `map` whose lists may be others now: a parent of theirs is done again.
_STALE = text(
    """
    SELECT m.id FROM tasks m
    WHERE m.id = ANY(:ids) AND jsonb_exists(m.rules, 'expanded')
      AND jsonb_exists_any(nullif(m.dependencies, 'null'), CAST(:ids AS text[]))
    """
)
_FORGET = text(
    """
    WITH gone AS (
        DELETE FROM tasks WHERE mapped_from = ANY(:ids) RETURNING id
    ), a AS (
        DELETE FROM attempts WHERE task_id IN (SELECT id FROM gone)
    ), e AS (
        DELETE FROM events WHERE task_id IN (SELECT id FROM gone)
    )
    SELECT id FROM gone
    """
)
_FOLD = text("UPDATE tasks SET rules = rules - 'expanded' WHERE id = ANY(:ids)")
_DISCONNECT = text("DELETE FROM edges WHERE child_id = ANY(:ids)")
# They wait for one another as they did; what else they waited for has succeeded. A task with `map` that has made its
# items waits for those of them that are done again.
_CONNECT = text(
    """
    WITH again AS (
        SELECT id, dependencies, mapped_from FROM tasks WHERE id = ANY(:ids)
    )
    INSERT INTO edges (parent_id, child_id)
    SELECT parent.id, child.id FROM again child
    CROSS JOIN jsonb_array_elements_text(coalesce(nullif(child.dependencies, 'null'), '[]')) AS d (id)
    JOIN again parent ON parent.id = d.id
    UNION ALL
    SELECT item.id, m.id FROM again m JOIN again item ON item.mapped_from = m.id
    """
)
_REOPEN = text(
    """
    WITH u AS (
        UPDATE tasks t SET
            status = 'pending', round = round + 1, failures = 0, infra_failures = 0, progress = 0, result = NULL,
            error = NULL, completed_at = NULL, cancel_requested_at = NULL, available_at = now(),
            started_at = CASE WHEN jsonb_exists(rules, 'expanded') THEN now() ELSE started_at END,
            carrier = 'coordinator', deps_left = (SELECT count(*) FROM edges WHERE child_id = t.id),
            deadline = CASE WHEN deadline > now() THEN deadline END,
            assigned_to = CASE WHEN pinned THEN assigned_to END, last_seq = last_seq + 1, updated_at = now()
        WHERE id = ANY(:ids)
        RETURNING id, last_seq, round, attempt
    )
    INSERT INTO events (task_id, seq, kind, round, attempt, data)
    SELECT id, last_seq, 'retrying', round, attempt, '{"reason": "asked"}' FROM u
    """
)
_RUN = text(
    """
    UPDATE workflows SET status = 'running', started_at = coalesce(started_at, now()), error = NULL,
                         completed_at = NULL, cancel_requested_at = NULL,
                         deadline = CASE WHEN deadline > now() THEN deadline END, updated_at = now()
    WHERE id = :id
    """
)
# What is given is not made of references any more.
_PAYLOAD = text(
    """
    UPDATE tasks SET payload = CAST(:payload AS jsonb), rules = nullif(rules - 'payload', '{}')
    WHERE id = :id AND (rules IS NULL OR NOT jsonb_exists(rules, 'map'))
    RETURNING id
    """
)


def reopen(db: Db, workflow_id: str) -> None:
    """Do again what did not succeed of a workflow that exists.

    Raises:
        Conflict: it has not ended, or has succeeded.
    """
    status = lock(db, workflow_id).status
    if status not in (WorkflowStatus.FAILED, WorkflowStatus.CANCELLED):
        raise Conflict(f"The workflow is {status}: one that has failed or was cancelled is retried.")
    ids = list(db.execute(_LOST, {"id": workflow_id}).scalars())
    stale = db.execute(_STALE, {"ids": ids}).scalars().all()
    if stale:
        gone = _forget_items(db, stale)
        ids = [task_id for task_id in ids if task_id not in gone]
    for statement in (_DISCONNECT, _CONNECT, _REOPEN):
        db.execute(statement, {"ids": ids})
    db.execute(_RUN, {"id": workflow_id})
    publisher.advance_after(db, [workflow_id])
    publisher.tell_after(db, [workflow_id])


def _forget_items(db: Db, maps: Sequence[str]) -> set[str]:
    """Let tasks with `map` make their items anew. Returns the ids of those that are gone."""
    gone = set(db.execute(_FORGET, {"ids": maps}).scalars())
    db.execute(_FOLD, {"ids": maps})
    return gone


def replace_payload(db: Db, task_id: str, payload: dict[str, Any]) -> None:
    """Give a task of a workflow another payload (already checked) for its next round.

    Raises:
        Conflict: it has `map`, so its payload is its items'.
    """
    if db.execute(_PAYLOAD, {"id": task_id, "payload": json.dumps(payload)}).first() is None:
        raise Conflict("The payload of a task with `map` is its items': retry one of those, or run the workflow again.")
