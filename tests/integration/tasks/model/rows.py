"""Tasks as they stand in the tables, and what must be true of them whatever happened."""

from __future__ import annotations

from typing import Any

from tests.integration.tasks.model.known import TERMINAL, UNSUCCESSFUL, Model
from tests.support import STATES, sql

#: From a state, by an event, to a state. Whatever is missing here is not legal.
_LEGAL = {
    ("", "accepted"): "pending",
    ("pending", "queued"): "queued",
    ("pending", "failed"): "failed",
    ("pending", "cancelled"): "cancelled",
    ("pending", "skipped"): "skipped",
    ("queued", "running"): "running",
    ("queued", "failed"): "failed",
    ("queued", "cancelled"): "cancelled",
    **{("running", word): "running" for word in ("progress", "log", "cancel_requested")},
    **{("running", word): "pending" for word in ("retrying", "lease_expired")},
    **{("running", end): end for end in ("succeeded", "failed", "cancelled")},
    **{(end, "retrying"): "pending" for end in UNSUCCESSFUL},
}


def look() -> dict[str, Any]:
    """Every task with all that is written about it, by id, oldest first."""
    found = sql(
        """
        SELECT t.*, available_at <= now() AS due, extract(epoch FROM available_at - updated_at)::float8 AS delay_s,
               ARRAY(SELECT parent_id FROM edges WHERE child_id = t.id) AS edges,
               ARRAY(SELECT to_jsonb(e) FROM events e WHERE task_id = t.id ORDER BY seq) AS events,
               ARRAY(SELECT to_jsonb(a) FROM attempts a WHERE task_id = t.id ORDER BY attempt) AS attempts
        FROM tasks t ORDER BY id
        """
    )
    return {row.id: row for row in found}


def forget() -> None:
    """Empty the tables of tasks. For a handful of rows this is several times faster than TRUNCATE."""
    sql("WITH a AS (DELETE FROM attempts), e AS (DELETE FROM events) DELETE FROM tasks")


def story(row: Any) -> list[tuple[str, int, int]]:
    """The events of a task: kind, round, attempt."""
    return [(e["kind"], e["round"], e["attempt"]) for e in row.events]


def expected(model: Model) -> dict[str, dict[str, Any]]:
    """What `told` has to say of each task."""
    return {
        task_id: {
            "status": task.status, "attempt": task.attempt, "round": task.round, "failures": task.failures,
            "infra_failures": task.infra_failures, "progress": task.progress, "dispatches": task.dispatches,
            "cancel_requested": task.cancel_requested, "waits_for": task.waits_for, "story": task.story,
            "attempts": task.attempts, "due": task.due if task.status == "pending" else None,
        }
        for task_id, task in model.tasks.items()
    }  # fmt: skip


def told(rows: dict[str, Any], model: Model) -> dict[str, dict[str, Any]]:
    """What the rows say, in the model's words."""
    # An automatic retry that waits for a second may have become due since: its delay is compared apart.
    waits = {i for i, task in model.tasks.items() if task.delay_s}
    return {
        row.id: {
            "status": row.status, "attempt": row.attempt, "round": row.round, "failures": row.failures,
            "infra_failures": row.infra_failures, "progress": row.progress, "dispatches": row.dispatches,
            "cancel_requested": row.cancel_requested_at is not None, "waits_for": set(row.edges),
            "story": story(row), "attempts": [(a["round"], a["outcome"]) for a in row.attempts],
            "due": None if row.status != "pending" else model.tasks[row.id].due if row.id in waits else row.due,
        }
        for row in rows.values()
    }  # fmt: skip


def check(rows: dict[str, Any]) -> None:
    """What holds for every task at every moment; of each it is enough to know the rows."""
    for row in rows.values():
        words = story(row)
        assert row.status in STATES
        assert [e["seq"] for e in row.events] == list(range(1, row.last_seq + 1)), "a gap in seq"
        _legal(row, words)
        for number in range(1, row.round + 1):
            ends = [kind for kind, of, _ in words if of == number and kind in TERMINAL]
            assert ends == ([] if number == row.round and row.status not in TERMINAL else ends[:1] or ["an end"])
        assert (row.completed_at is not None) == (row.status in TERMINAL)
        _parents(row, rows)
        assert [a["attempt"] for a in row.attempts] == list(range(1, row.attempt + 1))
        still_open = [a["attempt"] for a in row.attempts if a["ended_at"] is None]
        assert still_open == ([row.attempt] if row.status == "running" else []), "open attempts"
        assert (row.lease_until is not None, row.lease_owner is not None) == (row.status == "running",) * 2, "lease"
        assert (row.result is not None) == (row.status == "succeeded"), "result"


def _legal(row: Any, words: list[tuple[str, int, int]]) -> None:
    state, lap, attempt = "", 1, 0
    for kind, of, by in words:
        # The clock tells of a lost lease first, then of the end that follows from it.
        assert (state, kind) in _LEGAL, f"{kind} after {state}"
        lap += kind == "retrying" and state in UNSUCCESSFUL
        attempt += kind == "running"
        assert (of, by) == (lap, attempt), f"{kind} under round {of}, attempt {by}"
        state = _LEGAL[state, kind]
    assert (state, lap, attempt) == (row.status, row.round, row.attempt), "the row and its events differ"


def _parents(row: Any, rows: dict[str, Any]) -> None:
    states = {p: rows[p].status for p in row.dependencies or ()}
    missing = {p for p, status in states.items() if status != "succeeded"}
    assert set(row.edges) == missing, "edges"
    assert row.deps_left == len(missing), "deps_left"
    assert not (missing and row.attempt), "it ran before its parents had succeeded"
    assert not (row.status == "pending" and {*states.values()} & {*UNSUCCESSFUL}), "it waits for what never comes"
