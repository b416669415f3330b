"""Retry: another round of what did not succeed, and what it leaves alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import text

from app.db import transaction
from app.errors import Conflict
from app.tasks import retry as retry_
from app.tasks.retry import retry as retry_task
from app.workflows import control
from app.workflows import reopen as reopen_
from app.workflows.reopen import reopen
from tests.fleet import a_step, draw, flow, post_flow, states, tasks_of, work


def _do(verb: Callable[..., Any], *args: Any) -> Any:
    with transaction() as db:
        return verb(db, *args)


def _broken_once() -> str:
    """A workflow that fails at `b` the first time."""
    workflow_id = post_flow(
        a_step("a"),
        a_step("b", "a", task_type="fate", payload={"fail_first": 1}),
        a_step("c", "b"), a_step("d", "a"), a_step("e", "c", "d"),
    )  # fmt: skip
    work()
    assert states(workflow_id) == {"a": "succeeded", "b": "failed", "c": "skipped", "d": "succeeded", "e": "skipped"}
    return workflow_id


def test_retry_goes_on_from_what_failed() -> None:
    workflow_id = _broken_once()
    before = tasks_of(workflow_id)
    _do(reopen, workflow_id)
    assert flow(workflow_id).status == "running"
    work()
    assert flow(workflow_id).status == "succeeded"
    after = tasks_of(workflow_id)
    assert {key: row.round for key, row in after.items()} == {"a": 1, "b": 2, "c": 2, "d": 1, "e": 2}
    assert after["a"] == before["a"]
    assert after["d"] == before["d"]
    assert flow(workflow_id).error is None


def test_retry_of_a_task_retries_its_workflow_with_the_payload_given() -> None:
    workflow_id = post_flow(
        a_step("a", task_type="fate", payload={"fail": True}),
        a_step("b", "a", payload={"got": {"$ref": "tasks.a.result.answer"}}),
    )
    work()
    _do(retry_task, tasks_of(workflow_id)["a"].id, {"answer": 5})
    work()
    assert flow(workflow_id).status == "succeeded"
    assert tasks_of(workflow_id)["b"].result == {"got": 5}


def test_retry_replaces_a_payload_that_could_not_be_made() -> None:
    workflow_id = post_flow(a_step("a"), a_step("b", "a", payload={"got": {"$ref": "tasks.a.result.nothing"}}))
    work()
    assert states(workflow_id)["b"] == "failed"
    _do(retry_task, tasks_of(workflow_id)["b"].id, {"got": 1})
    work()
    assert tasks_of(workflow_id)["b"].result == {"got": 1}


def test_retry_of_a_map_does_only_the_items_again_that_failed() -> None:
    workflow_id = post_flow(
        a_step("m", task_type="fate", map=[0, 1, 0], payload={"fail_first": {"$ref": "item"}}), a_step("z", "m")
    )
    work()
    assert states(workflow_id) == {
        "m": "failed",
        "m[0]": "succeeded",
        "m[1]": "failed",
        "m[2]": "succeeded",
        "z": "skipped",
    }
    _do(reopen, workflow_id)
    work()
    assert set(states(workflow_id).values()) == {"succeeded"}
    assert {key: row.attempt for key, row in tasks_of(workflow_id).items() if row.mapped_from} == {
        "m[0]": 1, "m[1]": 2, "m[2]": 1,
    }  # fmt: skip


def test_retry_of_a_cancelled_workflow_runs_what_was_left() -> None:
    workflow_id = post_flow(a_step("a"), a_step("b", "a"), a_step("c", "b"))
    for queue in ("coordinator", "execution"):
        for envelope in draw(queue):
            envelope.open()
    _do(control.cancel, workflow_id)
    assert states(workflow_id) == {"a": "succeeded", "b": "cancelled", "c": "cancelled"}
    _do(reopen, workflow_id)
    work()
    assert flow(workflow_id).status == "succeeded"
    assert flow(workflow_id).cancel_requested_at is None


def test_retry_needs_an_end_and_something_that_failed() -> None:
    workflow_id = post_flow(a_step("a"), a_step("b", "a"), a_step("c", "b"))
    with pytest.raises(Conflict, match="pending"):
        _do(reopen, workflow_id)
    work()
    with pytest.raises(Conflict, match="succeeded"):
        _do(reopen, workflow_id)


def test_retry_again_and_again() -> None:
    workflow_id = post_flow(a_step("a", task_type="fate", payload={"fail_first": 3}), a_step("b", "a"))
    work()
    for _ in range(3):
        assert flow(workflow_id).status == "failed"
        _do(reopen, workflow_id)
        work()
    assert flow(workflow_id).status == "succeeded"
    assert tasks_of(workflow_id)["a"].round == 4


def test_a_retry_that_comes_just_as_a_workflow_ends_loses_no_task(clawq: pytest.MonkeyPatch) -> None:
    workflow_id = post_flow(a_step("a", task_type="fate", payload={"fail": True}))
    work()
    # As it was when the task still ran.
    clawq.setattr(retry_, "_WORKFLOW", text("SELECT NULL WHERE :id IS NULL"))
    with pytest.raises(Conflict):
        _do(retry_task, tasks_of(workflow_id)["a"].id)
    assert states(workflow_id) == {"a": "failed"}


def test_a_map_whose_parent_is_done_again_makes_its_items_anew(clawq: pytest.MonkeyPatch) -> None:
    workflow_id = post_flow(
        a_step("p", task_type="fate", payload={"fail_first": 1, "answer": [7]}, on_failure="continue"),
        a_step(
            "m", "p", task_type="fate", map={"$ref": "tasks.p.result.answer", "default": [1, 2]},
            payload={"fail_first": 1, "name": "m", "answer": {"$ref": "item"}},
        ),
    )  # fmt: skip
    work()
    assert states(workflow_id) == {"p": "failed", "m": "failed", "m[0]": "failed", "m[1]": "succeeded"}
    real, times = reopen_._forget_items, []
    clawq.setattr(reopen_, "_forget_items", lambda db, maps: times.append(maps) or real(db, maps))
    _do(reopen, workflow_id)
    work()
    assert states(workflow_id) == {"p": "succeeded", "m": "succeeded", "m[0]": "succeeded"}
    assert len(times) == 1
    assert tasks_of(workflow_id)["m"].result == {"items": [{"answer": 7}]}
