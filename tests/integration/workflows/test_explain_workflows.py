"""Explain: why a task of a workflow waits, in words that are true."""

from __future__ import annotations

import pytest

from app.db import transaction
from app.settings import settings
from app.tasks.explain import Reason, explain
from app.tasks.find import get
from app.tasks.finish import finish as finish_task
from app.workflows import control
from tests.fleet import a_step, draw, flow, post_flow, retry_now, tasks_of, work
from tests.support import SUCCEEDED, employ, scalar, sql, take


@pytest.fixture(autouse=True)
def _fleet(clawq: pytest.MonkeyPatch) -> None:
    employ("gateway")
    employ("coordinator")


def why(workflow_id: str, key: str) -> list[Reason]:
    with transaction() as db:
        return explain(db, get(db, tasks_of(workflow_id)[key].id, None))


def only(workflow_id: str, key: str) -> Reason:
    """The one reason, of kind `workflow`."""
    (reason,) = why(workflow_id, key)
    assert (reason.kind, reason.refs) == ("workflow", {"workflow_id": workflow_id})
    return reason


def begin() -> None:
    """The coordinator's first look, and nothing more."""
    for envelope in draw("coordinator"):
        envelope.open()


def finish(workflow_id: str, key: str, *, in_canvas: bool = False) -> None:
    """A worker takes a queued task and ends it."""
    (claim,) = take(tasks_of(workflow_id)[key].id)
    with transaction() as db:
        finish_task(db, [(claim, SUCCEEDED)], in_canvas=in_canvas)


def test_what_is_ready_waits_for_the_coordinator() -> None:
    workflow_id = post_flow(a_step("a"))
    assert only(workflow_id, "a").detail == "The coordinator lets it go within about a second."
    begin()
    assert [reason.kind for reason in why(workflow_id, "a")] == ["worker"]


def test_a_coordinator_that_is_missing_is_named() -> None:
    workflow_id = post_flow(a_step("a"), a_step("b", "a"))
    sql("DELETE FROM workers WHERE role = 'coordinator'")
    assert [reason.detail for reason in why(workflow_id, "a")] == ["No worker serves queue coordinator."]
    assert [reason.kind for reason in why(workflow_id, "b")] == ["parent", "worker"]


def test_parents_are_named_by_their_keys() -> None:
    workflow_id = post_flow(a_step("a"), a_step("b", "a"))
    (reason,) = why(workflow_id, "b")
    assert reason.detail == "Parent a is pending."
    assert reason.refs == {"task_id": tasks_of(workflow_id)["a"].id, "status": "pending"}


def test_a_map_waits_for_its_items() -> None:
    workflow_id = post_flow(a_step("m", map=[1, 2]))
    begin()
    assert [reason.detail for reason in why(workflow_id, "m")] == ["Parent m[0] is queued.", "Parent m[1] is queued."]


def test_a_map_needs_no_agent_but_its_items_do() -> None:
    workflow_id = post_flow(a_step("m", map=[1]), a_step("a"))
    sql("UPDATE agents SET status = 'inactive' WHERE agent_type = 'execution'")
    assert "coordinator" in only(workflow_id, "m").detail
    assert [reason.kind for reason in why(workflow_id, "a")] == ["worker"]


def test_a_paused_workflow_says_so_above_all_that_waits_in_it() -> None:
    workflow_id = post_flow(a_step("a"), a_step("b", "a"))
    begin()
    with transaction() as db:
        control.pause(db, workflow_id)
    assert "paused" in only(workflow_id, "a").detail
    assert [reason.kind for reason in why(workflow_id, "b")] == ["parent", "workflow"]
    with transaction() as db:
        control.resume(db, workflow_id)
    assert "coordinator" in only(workflow_id, "a").detail


def test_a_workflow_that_is_being_cancelled_says_so() -> None:
    workflow_id = post_flow(a_step("a"))
    sql("UPDATE workflows SET cancel_requested_at = now()")
    assert only(workflow_id, "a").detail == "Its workflow is being cancelled."


def test_a_workflow_at_its_limit_says_how_many_are_in_flight() -> None:
    workflow_id = post_flow(a_step("a"), a_step("b"), a_step("c"), a_step("z", "c"), max_running=2)
    begin()
    assert only(workflow_id, "c").detail == "Its workflow has 2 tasks in flight, its limit."
    assert [reason.kind for reason in why(workflow_id, "z")] == ["parent"]
    finish(workflow_id, "a")
    assert "coordinator" in only(workflow_id, "c").detail


def test_what_is_on_its_way_to_a_full_queue_is_in_flight(clawq: pytest.MonkeyPatch) -> None:
    clawq.setenv("CLAWQ_WINDOW", "1")
    settings.cache_clear()
    workflow_id = post_flow(a_step("a"), a_step("b"), a_step("c"), max_running=2)
    begin()
    assert [reason.kind for reason in why(workflow_id, "b")] == ["room"]
    assert [reason.kind for reason in why(workflow_id, "c")] == ["workflow", "room"]


def test_what_a_chain_brings_says_until_when() -> None:
    workflow_id = post_flow(a_step("a"), a_step("b", "a"))
    begin()
    assert tasks_of(workflow_id)["b"].carrier == "canvas"
    finish(workflow_id, "a", in_canvas=True)
    until = tasks_of(workflow_id)["b"].next_dispatch_at
    detail = only(workflow_id, "b").detail
    assert detail == f"A chain or chord brings it; if it has not by {until.isoformat()}, the coordinator does."
    assert scalar("SELECT next_dispatch_at - now() <= interval '10 seconds' FROM tasks WHERE key = 'b'")


def test_what_a_lost_chain_should_have_brought_is_the_coordinator_s() -> None:
    workflow_id = post_flow(a_step("a"), a_step("b", "a"))
    begin()
    finish(workflow_id, "a", in_canvas=True)
    draw()
    sql("UPDATE tasks SET next_dispatch_at = now() WHERE key = 'b'")
    assert only(workflow_id, "b").detail.startswith("The coordinator lets it go")
    assert "no chain or chord has brought it" in only(workflow_id, "b").detail
    retry_now(workflow_id)
    work()
    assert flow(workflow_id).status == "succeeded"


def test_a_chain_does_not_wait_for_room_but_for_a_worker_that_takes_it() -> None:
    workflow_id = post_flow(a_step("a"), a_step("b", "a"))
    begin()
    finish(workflow_id, "a", in_canvas=True)
    sql("DELETE FROM workers WHERE role = 'gateway'")
    assert only(workflow_id, "b").kind == "workflow"
    sql("UPDATE workers SET info = '{\"consuming\": false}' WHERE role = 'execution'")
    assert [reason.kind for reason in why(workflow_id, "b")] == ["worker"]


def test_a_delay_is_named_before_the_coordinator() -> None:
    workflow_id = post_flow(a_step("a", delay_s=60))
    begin()
    assert [reason.kind for reason in why(workflow_id, "a")] == ["time"]
