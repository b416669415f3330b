"""Retry: a new round of the same task."""

from __future__ import annotations

from functools import partial

import pytest

from app.db import transaction
from app.errors import Conflict
from app.queues import ADMIT
from app.tasks.cancel import cancel
from app.tasks.finish import finish
from app.tasks.retry import retry
from tests.support import (
    FAILED,
    SUCCEEDED,
    Aside,
    empty_redis,
    end,
    envelopes,
    eventually,
    kinds,
    post_one,
    put,
    row,
    running,
    sql,
    start,
    status,
    together,
)  # fmt: skip

pytestmark = pytest.mark.usefixtures("clawq")


def again(task_id: str, payload: dict | None = None) -> None:
    with transaction() as db:
        retry(db, task_id, payload)


@pytest.mark.parametrize("state", ["failed", "cancelled"])
def test_a_new_round_starts_from_nothing_but_the_attempt_goes_on(state: str) -> None:
    task_id = put(state, payload={"a": 1})
    attempt = row(task_id).attempt
    empty_redis()
    again(task_id)
    task = row(task_id)
    assert (task.status, task.round, task.failures, task.infra_failures) == ("pending", 2, 0, 0)
    assert (task.result, task.error, task.completed_at, task.cancel_requested_at) == (None, None, None, None)
    assert (task.attempt, task.payload) == (attempt, {"a": 1})
    assert kinds(task_id)[-1] == "retrying"
    assert envelopes("gateway") == [(ADMIT, [])]


def test_each_round_may_end_once() -> None:
    task_id = put("failed")
    for round_ in (2, 3):
        again(task_id)
        end((start(task_id), FAILED))
        assert kinds(task_id).count("failed") == round_
    again(task_id)
    end((start(task_id), SUCCEEDED))
    assert (status(task_id), row(task_id).round, row(task_id).attempt) == ("succeeded", 4, 4)


def test_a_round_has_all_its_tries_again() -> None:
    ours = running(max_attempts=2)
    end((ours, FAILED))
    end((start(ours.id), FAILED))
    again(ours.id)
    end((start(ours.id), FAILED))
    assert status(ours.id) == "pending"
    end((start(ours.id), FAILED))
    assert status(ours.id) == "failed"


def test_a_retry_can_bring_a_new_payload() -> None:
    task_id = put("failed", payload={"a": 1})
    again(task_id, {"b": "é"})
    assert row(task_id).payload == {"b": "é"}


def test_a_deadline_that_has_passed_is_dropped_and_one_to_come_stays() -> None:
    over, to_come = put("failed"), put("failed")
    sql("UPDATE tasks SET deadline = now() - interval '1 s' WHERE id = :id", id=over)
    sql("UPDATE tasks SET deadline = now() + interval '1 hour' WHERE id = :id", id=to_come)
    again(over)
    again(to_come)
    assert row(over).deadline is None
    assert row(to_come).deadline is not None


def test_of_many_that_retry_one_opens_a_round() -> None:
    task_id = put("failed")
    answers = together(*[partial(again, task_id)] * 5)
    assert sum(isinstance(a, Conflict) for a in answers) == 4
    assert row(task_id).round == 2


def test_a_task_whose_parent_did_not_succeed_is_not_retried_before_that_one() -> None:
    parent = running()
    child = post_one(dependencies=[parent.id])
    with transaction() as db:
        cancel(db, child)
    end((parent, FAILED))
    with pytest.raises(Conflict):
        again(child)
    again(parent.id)
    again(child)
    assert (status(child), row(child).deps_left) == ("pending", 1)
    end((start(parent.id), SUCCEEDED))
    assert row(child).deps_left == 0


@pytest.mark.parametrize(("outcome", "left"), [(SUCCEEDED, ("pending", 0)), (FAILED, ("cancelled", 1))])
def test_a_retry_waits_for_a_parent_that_is_ending(outcome, left) -> None:
    parent = running()
    child = post_one(dependencies=[parent.id])
    with transaction() as db:
        cancel(db, child)
    with transaction() as db:
        finish(db, [(parent, outcome)])
        retrying = Aside(lambda other: retry(other, child))
        eventually(retrying.is_blocked)
    if outcome is FAILED:
        with pytest.raises(Conflict):
            retrying.join()
    else:
        retrying.join()
    assert (status(child), row(child).deps_left) == left


def test_a_parent_s_end_sees_a_child_that_is_being_retried() -> None:
    parent = running()
    child = post_one(dependencies=[parent.id])
    with transaction() as db:
        cancel(db, child)
    with transaction() as db:
        retry(db, child)
        ending = Aside(lambda other: finish(other, [(parent, FAILED)]))
        eventually(ending.is_blocked)
    ending.join()
    assert status(child) == "skipped"


def test_a_skipped_task_is_retried_once_its_parent_can_succeed_again() -> None:
    parent = running()
    child = post_one(dependencies=[parent.id])
    end((parent, FAILED))
    assert status(child) == "skipped"
    with pytest.raises(Conflict):
        again(child)
    again(parent.id)
    again(child)
    end((start(parent.id), SUCCEEDED))
    end((start(child), SUCCEEDED))
    assert (status(parent.id), status(child)) == ("succeeded", "succeeded")
