"""Cancel, pause and resume: at any moment, and what they leave alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import text

from app.db import transaction
from app.errors import Conflict
from app.tasks import admit as admit_
from app.tasks.cancel import cancel as cancel_task
from app.tasks.recover import expire
from app.workflows import control
from app.workflows.stop import stop
from tests.fleet import Envelope, a_step, draw, flow, post_flow, retry_now, states, tasks_of, work
from tests.support import CANCELLED, SUCCEEDED, Aside, end, events, eventually, kinds, let_in, sql, take


def _do(verb: Callable[..., Any], *args: Any) -> Any:
    with transaction() as db:
        return verb(db, *args)


def _begin(workflow_id: str) -> list[Envelope]:
    """The first look of the coordinator; returns the envelopes that wait then."""
    for envelope in draw("coordinator"):
        envelope.open()
    return draw("execution")


def _three() -> str:
    return post_flow(a_step("a"), a_step("b", "a"), a_step("c", "b"))


def test_cancel_before_anything_runs_is_at_once() -> None:
    workflow_id = _three()
    sent = _begin(workflow_id)
    assert _do(control.cancel, workflow_id) == "cancelled"
    assert set(states(workflow_id).values()) == {"cancelled"}
    for envelope in sent:
        envelope.open()
    work()
    assert set(states(workflow_id).values()) == {"cancelled"}
    assert flow(workflow_id).status == "cancelled"
    assert flow(workflow_id).completed_at is not None


def test_cancel_waits_for_what_runs_and_starts_nothing_new() -> None:
    workflow_id = post_flow(a_step("a"), a_step("b", "a"), a_step("x"))
    _begin(workflow_id)
    (running,) = take(tasks_of(workflow_id)["a"].id)
    assert _do(control.cancel, workflow_id) == "running"
    assert states(workflow_id) == {"a": "running", "b": "cancelled", "x": "cancelled"}
    assert kinds(running.id)[-1] == "cancel_requested"
    end((running, CANCELLED))
    work()
    assert flow(workflow_id).status == "cancelled"
    assert flow(workflow_id).error is None


def test_cancel_twice_and_after_the_end() -> None:
    workflow_id = _three()
    assert [_do(control.cancel, workflow_id) for _ in range(2)] == ["cancelled"] * 2
    done = _three()
    work()
    with pytest.raises(Conflict, match="succeeded"):
        _do(control.cancel, done)


def test_a_task_that_succeeds_while_its_workflow_is_being_cancelled_starts_no_child() -> None:
    workflow_id = _three()
    _begin(workflow_id)
    (running,) = take(tasks_of(workflow_id)["a"].id)
    _do(control.cancel, workflow_id)
    end((running, SUCCEEDED))
    work()
    assert states(workflow_id) == {"a": "succeeded", "b": "cancelled", "c": "cancelled"}
    assert flow(workflow_id).status == "cancelled"


def test_cancel_of_one_task_skips_those_below() -> None:
    workflow_id = _three()
    _do(cancel_task, tasks_of(workflow_id)["b"].id)
    work()
    assert states(workflow_id) == {"a": "succeeded", "b": "cancelled", "c": "skipped"}
    assert flow(workflow_id).status == "failed"
    assert "b was cancelled" in flow(workflow_id).error


def test_cancel_of_a_map_cancels_its_items() -> None:
    workflow_id = post_flow(a_step("m", map=[1, 2, 3], payload={}))
    _begin(workflow_id)
    _do(cancel_task, tasks_of(workflow_id)["m"].id)
    assert set(states(workflow_id).values()) == {"cancelled"}


def test_pause_holds_what_is_queued_and_resume_lets_it_go() -> None:
    workflow_id = _three()
    sent = _begin(workflow_id)
    _do(control.pause, workflow_id)
    for envelope in sent:
        envelope.open()
    work()
    assert set(states(workflow_id).values()) == {"pending"}
    assert kinds(tasks_of(workflow_id)["a"].id) == ["accepted", "queued", "retrying"]
    assert events(tasks_of(workflow_id)["a"].id)[-1].data == {"reason": "paused"}
    retry_now(workflow_id)
    work()
    assert (flow(workflow_id).status, set(states(workflow_id).values())) == ("paused", {"pending"})
    _do(control.resume, workflow_id)
    work()
    assert flow(workflow_id).status == "succeeded"


def test_pause_lets_what_runs_end_and_holds_the_rest_of_its_chain() -> None:
    workflow_id = _three()
    _begin(workflow_id)
    (running,) = take(tasks_of(workflow_id)["a"].id)
    _do(control.pause, workflow_id)
    end((running, SUCCEEDED))
    work()
    retry_now(workflow_id)
    work()
    assert states(workflow_id) == {"a": "succeeded", "b": "pending", "c": "pending"}
    _do(control.resume, workflow_id)
    work()
    assert flow(workflow_id).status == "succeeded"


def test_a_chain_that_comes_while_paused_finds_nothing_to_do() -> None:
    workflow_id = _three()
    for envelope in _begin(workflow_id):
        envelope.open()
    (step,) = draw("execution")
    _do(control.pause, workflow_id)
    step.open()
    assert states(workflow_id)["b"] == "pending"
    _do(control.resume, workflow_id)
    step.open()
    work()
    assert flow(workflow_id).status == "succeeded"
    assert kinds(tasks_of(workflow_id)["b"].id) == ["accepted", "queued", "running", "succeeded"]


def test_a_paused_workflow_whose_last_task_ends_has_ended() -> None:
    workflow_id = post_flow(a_step("a"))
    _begin(workflow_id)
    (running,) = take(tasks_of(workflow_id)["a"].id)
    _do(control.pause, workflow_id)
    end((running, SUCCEEDED))
    work()
    assert flow(workflow_id).status == "succeeded"


def test_a_paused_workflow_can_be_cancelled_and_one_being_cancelled_not_paused() -> None:
    workflow_id = _three()
    _begin(workflow_id)
    (running,) = take(tasks_of(workflow_id)["a"].id)
    _do(control.pause, workflow_id)
    assert _do(control.cancel, workflow_id) == "paused"
    with pytest.raises(Conflict, match="being cancelled"):
        _do(control.pause, workflow_id)
    end((running, CANCELLED))
    work()
    assert flow(workflow_id).status == "cancelled"


@pytest.mark.parametrize("verb", [control.pause, control.resume])
def test_what_has_ended_is_neither_paused_nor_resumed(verb: Callable[..., Any]) -> None:
    workflow_id = post_flow(a_step("a"))
    work()
    with pytest.raises(Conflict, match="succeeded"):
        _do(verb, workflow_id)


def test_a_deadline_that_passes_fails_what_has_not_started() -> None:
    workflow_id = _three()
    sql("UPDATE tasks SET deadline = now() WHERE workflow_id = :id AND key = 'b'", id=workflow_id)
    _do(expire)
    work()
    assert states(workflow_id) == {"a": "succeeded", "b": "failed", "c": "skipped"}
    assert flow(workflow_id).status == "failed"


def test_stop_leaves_what_has_ended_alone() -> None:
    workflow_id = _three()
    work()
    before = tasks_of(workflow_id)
    _do(stop, workflow_id)
    assert tasks_of(workflow_id) == before


def test_an_admission_that_has_chosen_a_task_before_a_pause_does_not_queue_it(clawq: pytest.MonkeyPatch) -> None:
    workflow_id = post_flow(a_step("a"))
    sql("UPDATE tasks SET carrier = 'gateway' WHERE workflow_id = :id", id=workflow_id)
    real = admit_.assign

    def slow(*args: Any) -> Any:
        chosen = real(*args)
        assert chosen
        _do(control.pause, workflow_id)
        return chosen

    clawq.setattr(admit_, "assign", slow)
    let_in()
    assert states(workflow_id) == {"a": "pending"}


@pytest.mark.parametrize(("verb", "which"), [(cancel_task, "m"), (control.cancel, None), (control.pause, None)])
def test_whoever_ends_an_item_waits_for_nobody_who_waits_for_it(verb: Callable[..., Any], which: str | None) -> None:
    workflow_id = post_flow(a_step("m", map=[1, 2], payload={}))
    _begin(workflow_id)
    ids = {key: row.id for key, row in tasks_of(workflow_id).items()}
    with transaction() as db:
        # As an end does: the item, then the task that it is an item of.
        db.execute(text("SELECT FROM tasks WHERE id = :id FOR UPDATE"), {"id": ids["m[1]"]})
        other = Aside(lambda db: verb(db, ids[which] if which else workflow_id))
        eventually(other.is_blocked)
        db.execute(text("SELECT FROM tasks WHERE id = :id FOR UPDATE"), {"id": ids["m"]})
    other.join()


def test_one_that_was_paused_before_it_began_has_started_all_the_same() -> None:
    workflow_id = _three()
    _do(control.pause, workflow_id)
    _do(control.resume, workflow_id)
    work()
    assert flow(workflow_id).started_at is not None
