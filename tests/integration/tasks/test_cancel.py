"""Cancel: at once where nobody runs it, by request where somebody does, and never over an end."""

from __future__ import annotations

from functools import partial

import pytest

from app.db import transaction
from app.errors import Conflict
from app.tasks import recover
from app.tasks.cancel import cancel
from app.tasks.retry import retry
from tests.support import (
    CANCELLED,
    SUCCEEDED,
    Aside,
    end,
    eventually,
    kinds,
    lapse,
    post_one,
    put,
    row,
    running,
    snapshot,
    status,
    take,
    together,
)  # fmt: skip

pytestmark = pytest.mark.usefixtures("clawq")


def ask(task_id: str) -> str:
    with transaction() as db:
        return cancel(db, task_id)


@pytest.mark.parametrize("state", ["pending", "queued"])
def test_a_task_that_nobody_runs_is_cancelled_at_once(state: str) -> None:
    task_id = put(state)
    assert ask(task_id) == "cancelled"
    assert row(task_id).completed_at
    assert take(task_id) == []
    assert kinds(task_id)[-1] == "cancelled"


def test_a_running_task_is_cancelled_only_when_its_program_is_dead() -> None:
    ours = running()
    assert ask(ours.id) == "running"
    assert (status(ours.id), row(ours.id).completed_at) == ("running", None)
    assert kinds(ours.id)[-1] == "cancel_requested"
    end((ours, CANCELLED))
    assert kinds(ours.id)[-2:] == ["cancel_requested", "cancelled"]


@pytest.mark.parametrize("state", ["pending", "queued", "running"])
def test_asking_twice_is_harmless(state: str) -> None:
    task_id = put(state)
    first = ask(task_id)
    before = snapshot(task_id)
    assert ask(task_id) == first
    assert snapshot(task_id) == before


def test_a_cancelled_task_whose_worker_is_lost_is_cancelled_by_the_clock() -> None:
    ours = running()
    ask(ours.id)
    lapse(ours.id)
    with transaction() as db:
        assert recover.take_back(db) == 1
    assert kinds(ours.id)[-3:] == ["cancel_requested", "lease_expired", "cancelled"]


def test_a_cancel_and_a_claim_at_the_same_moment_agree() -> None:
    for _ in range(20):
        task_id = put("queued")
        said, claims = together(partial(ask, task_id), partial(take, task_id))
        if claims:
            assert (said, status(task_id)) == ("running", "running")
            assert row(task_id).cancel_requested_at, "the worker will hear of it"
        else:
            assert (said, status(task_id)) == ("cancelled", "cancelled")
        kinds(task_id)


def test_a_cancel_and_an_end_at_the_same_moment_agree() -> None:
    for _ in range(20):
        ours = running()
        said, written = together(partial(ask, ours.id), partial(end, (ours, SUCCEEDED)))
        assert written == {ours.id}
        assert status(ours.id) == "succeeded", "a success stands"
        assert said == "running" or isinstance(said, Conflict)
        assert kinds(ours.id)[-1] == "succeeded"


def test_of_many_that_cancel_one_is_written() -> None:
    task_id = post_one()
    assert together(*[partial(ask, task_id)] * 6) == ["cancelled"] * 6
    assert kinds(task_id) == ["accepted", "cancelled"]


def test_a_cancel_that_meets_a_retry_cancels_the_new_round() -> None:
    task_id = put("cancelled")
    with transaction() as db:
        retry(db, task_id)
        cancelling = Aside(lambda other: cancel(other, task_id))
        eventually(lambda: cancelling.is_blocked() or cancelling.is_over())
    assert cancelling.join() == "cancelled"
    assert status(task_id) == "cancelled"
    assert kinds(task_id) == ["accepted", "cancelled", "retrying", "cancelled"]
