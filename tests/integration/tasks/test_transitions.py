"""Every verb on every state: either the documented change, or nothing at all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from app.db import transaction
from app.errors import Conflict
from app.tasks import lease, recover
from app.tasks.cancel import cancel
from app.tasks.report import record_container, report
from app.tasks.retry import retry
from schema.tasks import EventKind
from tests.support import (
    CANCELLED,
    FAILED,
    HANDED_BACK,
    INFRA,
    STATES,
    SUCCEEDED,
    Claim,
    a_claim,
    end,
    kinds,
    let_in,
    put,
    row,
    scalar,
    snapshot,
    sql,
    status,
    take,
)  # fmt: skip

pytestmark = pytest.mark.usefixtures("clawq")


def _claim(task_id: str) -> Claim:
    """A claim of what the row says is the current attempt, whatever its state."""
    task = row(task_id)
    return a_claim(id=task_id, attempt=task.attempt, failures=task.failures, max_attempts=task.max_attempts)


def _with(action: Callable[[Any], Any]) -> Any:
    with transaction() as db:
        return action(db)


def _overdue(task_id: str) -> None:
    sql("UPDATE tasks SET deadline = now() - interval '1 minute' WHERE id = :id", id=task_id)


def _unheard(task_id: str) -> None:
    sql("UPDATE tasks SET lease_until = now() - interval '1 minute' WHERE id = :id", id=task_id)


def _undispatched(task_id: str) -> None:
    sql("UPDATE tasks SET next_dispatch_at = now() - interval '1 minute' WHERE id = :id", id=task_id)


#: verb: what is done, what is arranged before, and what each state becomes; a state that is not named stays.
VERBS: dict[str, tuple[Callable[[str], Any], Callable[[str], Any] | None, dict[str, str]]] = {
    "admit": (lambda i: let_in(), None, {"pending": "queued"}),
    "claim": (lambda i: take(i), None, {"queued": "running"}),
    "claim past the deadline": (lambda i: take(i), _overdue, {}),
    "succeed": (lambda i: end((_claim(i), SUCCEEDED)), None, {"running": "succeeded"}),
    "fail": (lambda i: end((_claim(i), FAILED)), None, {"running": "failed"}),
    "infra": (lambda i: end((_claim(i), INFRA)), None, {"running": "pending"}),
    "hand back": (lambda i: end((_claim(i), HANDED_BACK)), None, {"running": "pending"}),
    "stopped": (lambda i: end((_claim(i), CANCELLED)), None, {"running": "cancelled"}),
    "cancel": (lambda i: _with(lambda db: cancel(db, i)), None, {"pending": "cancelled", "queued": "cancelled"}),
    "retry": (lambda i: _with(lambda db: retry(db, i)), None, {"failed": "pending", "cancelled": "pending"}),
    "take back": (lambda i: _with(recover.take_back), _unheard, {"running": "pending"}),
    "expire": (lambda i: _with(recover.expire), _overdue, {"pending": "failed", "queued": "failed"}),
    "redispatch": (lambda i: _with(recover.redispatch), _undispatched, {"queued": "queued"}),
    "report": (
        lambda i: _with(lambda db: report(db, i, row(i).attempt, [(EventKind.LOG, {"text": "x"})])),
        None,
        {"running": "running"},
    ),
    "container": (
        lambda i: _with(lambda db: record_container(db, i, row(i).attempt, "c1")), None, {"running": "running"},
    ),
    "heartbeat": (
        lambda i: _with(lambda db: lease.heartbeat(db, [(i, row(i).attempt)])), None, {"running": "running"},
    ),
    "look": (lambda i: _with(lambda db: lease.look(db, [(i, row(i).attempt)])), None, {}),
}  # fmt: skip


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_changes_only_the_states_it_is_for(verb: str, state: str) -> None:
    act, arrange, becomes = VERBS[verb]
    task_id = put(state)
    if arrange:
        arrange(task_id)
    before = snapshot(task_id)
    special = verb == "cancel" and state == "running"  # a request, tested in test_cancel.py
    try:
        act(task_id)
    except Conflict:
        assert state not in becomes
    if state in becomes:
        assert status(task_id) == becomes[state]
        assert snapshot(task_id) != before
    elif not special:
        assert snapshot(task_id) == before
    kinds(task_id)  # no gap in the numbers of its events


@pytest.mark.parametrize("verb", ["cancel", "retry"])
@pytest.mark.parametrize("state", STATES)
def test_a_person_is_told_when_a_verb_does_not_apply(verb: str, state: str) -> None:
    refused = {"cancel": ("succeeded", "failed", "skipped"), "retry": ("pending", "queued", "running", "succeeded",
                                                                      "skipped")}  # fmt: skip
    task_id = put(state)
    if state in refused[verb]:
        with pytest.raises(Conflict):
            VERBS[verb][0](task_id)
    else:
        VERBS[verb][0](task_id)


@pytest.mark.parametrize("first", ["succeeded", "failed", "cancelled", "skipped"])
@pytest.mark.parametrize("second", ["succeeded", "failed", "cancelled", "skipped"])
def test_the_database_itself_refuses_a_second_end_in_a_round(first: str, second: str) -> None:
    task_id = put(first)
    insert = (
        "INSERT INTO events (task_id, seq, kind, round, attempt) "
        "SELECT id, last_seq + 1, :kind, round + :later, attempt FROM tasks WHERE id = :id"
    )
    with pytest.raises(IntegrityError, match="events_one_end_a_round"), transaction() as db:
        db.execute(text(insert), {"kind": second, "id": task_id, "later": 0})
    sql(insert, kind=second, id=task_id, later=1)


def test_a_number_of_an_event_is_given_once() -> None:
    task_id = put("running")
    with pytest.raises(IntegrityError, match="events_pkey"), transaction() as db:
        db.execute(
            text("INSERT INTO events (task_id, seq, kind, round, attempt) VALUES (:id, 1, 'log', 1, 0)"),
            {"id": task_id},
        )


@pytest.mark.parametrize(
    ("column", "value"),
    [("status", "done"), ("priority", "urgent"), ("progress", 101), ("progress", -1), ("deps_left", -1)],
)
def test_the_database_refuses_a_value_that_no_task_can_have(column: str, value: Any) -> None:
    task_id = put("pending")
    with pytest.raises(IntegrityError, match=f"tasks_{column}_check"):
        sql(f"UPDATE tasks SET {column} = :value WHERE id = :id", value=value, id=task_id)


def test_each_state_is_reached_through_the_documented_events() -> None:
    told = {state: kinds(put(state)) for state in STATES}
    assert told == {
        "pending": ["accepted"],
        "queued": ["accepted", "queued"],
        "running": ["accepted", "queued", "running"],
        "succeeded": ["accepted", "queued", "running", "succeeded"],
        "failed": ["accepted", "queued", "running", "failed"],
        "cancelled": ["accepted", "cancelled"],
        "skipped": ["accepted", "skipped"],
    }


def test_only_ended_tasks_have_a_time_of_their_end() -> None:
    for state in STATES:
        ended = state in ("succeeded", "failed", "cancelled", "skipped")
        assert (row(put(state)).completed_at is not None) == ended
    assert scalar("SELECT count(*) FROM tasks WHERE status <> 'running' AND lease_owner IS NOT NULL") == 0
