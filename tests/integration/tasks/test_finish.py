"""Finish: one statement for many ends, each fenced, each once."""

from __future__ import annotations

from functools import partial

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from app.metrics import TASK_RETRIES, TASKS_COMPLETED
from app.tasks import finish as finish_
from app.tasks.retry import MAX_INFRA_FAILURES, Outcome
from tests.support import (
    CANCELLED,
    FAILED,
    HANDED_BACK,
    INFRA,
    SUCCEEDED,
    a_task,
    employ,
    end,
    events,
    kinds,
    let_in,
    post,
    put,
    row,
    running,
    scalar,
    snapshot,
    sql,
    start,
    status,
    take,
    together,
)  # fmt: skip

pytestmark = pytest.mark.usefixtures("clawq")


def test_a_success_keeps_the_result_and_closes_the_attempt() -> None:
    ours = running()
    assert end((ours, SUCCEEDED)) == {ours.id}
    task = row(ours.id)
    assert (task.status, task.result, task.error, task.progress) == ("succeeded", {"answer": 42}, None, 100)
    assert (task.lease_owner, task.lease_until) == (None, None)
    assert task.completed_at >= task.started_at
    ((outcome, ended_at),) = sql("SELECT outcome, ended_at FROM attempts")
    assert (outcome, ended_at) == ("succeeded", task.completed_at)


def test_a_failure_keeps_the_result_and_the_sentence() -> None:
    ours = running()
    end((ours, Outcome(kind="failed", result={"verdict": "oom"}, error="Out of memory.")))
    task = row(ours.id)
    assert (task.status, task.result, task.error) == ("failed", {"verdict": "oom"}, "Out of memory.")
    assert events(ours.id)[-1].data == {"error": "Out of memory."}


def test_a_failure_with_tries_left_is_pending_again_after_a_while() -> None:
    ours = running(max_attempts=2)
    end((ours, FAILED))
    task = row(ours.id)
    assert (task.status, task.failures, task.infra_failures, task.attempt) == ("pending", 1, 0, 1)
    assert (task.result, task.error, task.completed_at, task.assigned_to) == (None, "It broke.", None, None)
    assert scalar("SELECT available_at BETWEEN now() AND now() + interval '1.2 s' FROM tasks")
    assert kinds(ours.id)[-1] == "retrying"
    assert events(ours.id)[-1].data.keys() == {"error", "reason", "delay_s"}
    end((start(ours.id), FAILED))
    assert kinds(ours.id).count("failed") == 1
    assert row(ours.id).failures == 2


def test_a_lease_handed_back_counts_no_failure_however_often() -> None:
    ours = running()
    for _ in range(MAX_INFRA_FAILURES + 2):
        end((ours, HANDED_BACK))
        task = row(ours.id)
        assert (task.status, task.failures, task.infra_failures) == ("pending", 0, 0)
        assert scalar("SELECT available_at <= now() FROM tasks"), "it may start elsewhere at once"
        ours = start(ours.id)
    end((ours, SUCCEEDED))
    assert status(ours.id) == "succeeded"
    assert ours.attempt == MAX_INFRA_FAILURES + 3


def test_our_own_faults_are_retried_a_bounded_number_of_times() -> None:
    ours = running(max_attempts=1)
    for count in range(1, MAX_INFRA_FAILURES):
        end((ours, INFRA))
        task = row(ours.id)
        assert (task.status, task.failures, task.infra_failures) == ("pending", 0, count)
        ours = start(ours.id)
    end((ours, INFRA))
    assert status(ours.id) == "failed"
    assert row(ours.id).error == "The engine broke."


@pytest.mark.parametrize(
    ("outcome", "becomes"),
    [(SUCCEEDED, "succeeded"), (FAILED, "cancelled"), (INFRA, "cancelled"), (HANDED_BACK, "cancelled"),
     (CANCELLED, "cancelled")],
)  # fmt: skip
def test_a_cancel_wins_over_another_try_and_a_success_stands(outcome: Outcome, becomes: str) -> None:
    ours = running(max_attempts=5)
    sql("UPDATE tasks SET cancel_requested_at = now()")
    end((ours, outcome))
    assert status(ours.id) == becomes
    assert kinds(ours.id)[-1] == becomes
    assert row(ours.id).completed_at is not None


def test_many_ends_are_one_transaction_and_each_is_its_own() -> None:
    employ()
    ids = post(*[a_task(max_attempts=2)] * 4)
    let_in()
    claims = sorted(take(*ids), key=lambda c: ids.index(c.id))
    stale = claims[3]
    end((stale, HANDED_BACK))
    outcomes = [SUCCEEDED, FAILED, CANCELLED, SUCCEEDED]
    assert end(*zip(claims, outcomes, strict=True)) == set(ids[:3])
    assert [status(i) for i in ids] == ["succeeded", "pending", "cancelled", "pending"]
    assert end() == set()


def test_of_many_ends_of_one_attempt_one_is_written() -> None:
    for _ in range(5):
        ours = running()
        written = together(*(partial(end, (ours, o)) for o in (SUCCEEDED, FAILED, CANCELLED, SUCCEEDED)))
        assert sorted(map(len, written)) == [0, 0, 0, 1]
        assert len(set(kinds(ours.id)) & {"succeeded", "failed", "cancelled"}) == 1


def test_an_agent_that_was_picked_is_picked_anew_and_one_that_was_named_stays() -> None:
    picked, named = running(), running(assigned_to="execution_agent")
    end((picked, HANDED_BACK), (named, HANDED_BACK))
    assert row(picked.id).assigned_to is None
    assert row(named.id).assigned_to == "execution_agent"


def test_ends_are_counted_once_they_are_committed() -> None:
    def counted(state: str) -> float:
        return TASKS_COMPLETED.labels(status=state)._value.get()

    before = counted("succeeded"), counted("failed"), TASK_RETRIES._value.get()
    end((running(), SUCCEEDED), (running(), FAILED), (running(max_attempts=2), FAILED))
    after = counted("succeeded"), counted("failed"), TASK_RETRIES._value.get()
    assert [b - a for a, b in zip(before, after, strict=True)] == [1, 1, 1]


def test_a_task_that_has_ended_is_not_ended_again() -> None:
    task_id = put("succeeded")
    assert end((_again(task_id), FAILED)) == set()
    assert status(task_id) == "succeeded"


@pytest.mark.parametrize("outcome", [SUCCEEDED, FAILED, CANCELLED])
def test_a_finish_without_its_own_guards_is_refused_by_the_database(
    clawq: pytest.MonkeyPatch, outcome: Outcome
) -> None:
    ours = running()
    end((ours, SUCCEEDED))
    before = snapshot(ours.id)
    guarded = finish_._FINISH.text
    blind = guarded.replace("n.was = 'running'", "true")
    assert blind != guarded
    clawq.setattr(finish_, "_FINISH", text(blind))
    with pytest.raises(IntegrityError, match="events_one_end_a_round"):
        end((ours, outcome))
    assert snapshot(ours.id) == before


def _again(task_id: str):
    from tests.support import a_claim

    return a_claim(id=task_id, attempt=row(task_id).attempt)
