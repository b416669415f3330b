"""Workflows from submission to their end, through chains and chords that go as they do in a worker."""

from __future__ import annotations

from typing import Any

import pytest

from app.db import transaction
from app.workflows import canvas
from app.workflows.advance import advance
from tests.fleet import Envelope, a_step, flow, order_of, post_flow, retry_now, states, tasks_of, work
from tests.support import Aside, employ, eventually, kinds, sql, status


def _carried(opened: list[Envelope]) -> list[tuple[str, int, bool]]:
    """What brought tasks: the job, how many are to follow in its chain, and whether it is in a chord's header."""
    return [(e.job, len(e.chain), bool(e.chord)) for e in opened if e.job != "workflows.advance"]


def test_a_linear_run_is_carried_by_a_chain() -> None:
    workflow_id = post_flow(a_step("a"), a_step("b", "a"), a_step("c", "b"))
    opened = work()
    assert flow(workflow_id).status == "succeeded"
    assert order_of(workflow_id) == ["a", "b", "c"]
    assert _carried(opened) == [("tasks.run", 2, False), ("workflows.step", 1, False), ("workflows.step", 0, False)]
    for row in tasks_of(workflow_id).values():
        assert kinds(row.id) == ["accepted", "queued", "running", "succeeded"]


def test_a_fork_that_joins_is_carried_by_a_chord() -> None:
    workflow_id = post_flow(a_step("a"), a_step("b", "a"), a_step("c", "a"), a_step("d", "b", "c"))
    opened = work()
    assert flow(workflow_id).status == "succeeded"
    assert order_of(workflow_id)[-1] == "d"
    root, *header, body = _carried(opened)
    assert root == ("tasks.run", 0, False)
    assert header == [("tasks.run", 0, True)] * 2
    assert body == ("workflows.step", 0, False)


def test_the_runs_of_a_header_are_chains() -> None:
    post_flow(a_step("a"), a_step("b", "a"), a_step("c"), a_step("d", "b", "c"))
    assert [(job, follow) for job, follow, _ in _carried(work())][:2] == [("tasks.run", 0), ("tasks.run", 1)]


def test_an_n_shape_meets_through_its_rows() -> None:
    workflow_id = post_flow(a_step("a"), a_step("b"), a_step("c", "a"), a_step("d", "a", "b"))
    opened = work()
    assert flow(workflow_id).status == "succeeded"
    assert {job for job, _, _ in _carried(opened)} == {"tasks.run"}
    assert not any(chord for _, _, chord in _carried(opened))


def test_four_hundred_side_by_side_go_in_few_envelopes() -> None:
    wide = [a_step(f"w{n}", "a") for n in range(400)]
    workflow_id = post_flow(a_step("a"), *wide, a_step("z", *(step.key for step in wide)))
    opened = work()
    assert flow(workflow_id).status == "succeeded"
    assert [len(e.ids) for e in opened if e.chord] == [200, 200]


def test_envelopes_carry_ids_only() -> None:
    post_flow(a_step("a", payload={"secret": "x" * 100}), a_step("b", "a"), a_step("c", "a"), a_step("d", "b", "c"))
    for envelope in work():
        assert b"secret" not in envelope.raw
        assert "secret" not in str(envelope.body)


def test_a_canvas_that_cannot_be_sent_is_made_up_for(clawq: pytest.MonkeyPatch) -> None:
    workflow_id = post_flow(a_step("a"), a_step("b", "a"))
    with clawq.context() as broken:
        broken.setattr(canvas, "_send", _refuse)
        work()
    assert states(workflow_id) == {"a": "queued", "b": "pending"}
    work_on(workflow_id)
    assert flow(workflow_id).status == "succeeded"


def test_a_workflow_begins_when_its_bell_was_lost() -> None:
    workflow_id = post_flow(a_step("a"))
    work(keep=lambda _: False)
    assert flow(workflow_id).status == "pending"
    work_on(workflow_id)
    assert flow(workflow_id).status == "succeeded"


def test_tasks_of_one_workflow_do_not_wait_for_another() -> None:
    first = post_flow(a_step("a"), a_step("b", "a"))
    second = post_flow(a_step("a"), a_step("b", "a"))
    work()
    assert (flow(first).status, flow(second).status) == ("succeeded", "succeeded")


@pytest.mark.parametrize(("on_failure", "below", "whole"), [
    ("skip", "skipped", "failed"),
    ("continue", "succeeded", "succeeded"),
    ("cancel", "skipped", "failed"),
])  # fmt: skip
def test_what_a_failure_does_to_those_below(on_failure: str, below: str, whole: str) -> None:
    workflow_id = post_flow(a_step("a", task_type="fate", payload={"fail": True}, on_failure=on_failure),
                            a_step("b", "a"), a_step("c", "b"))  # fmt: skip
    work()
    assert states(workflow_id) == {"a": "failed", "b": below, "c": below}
    assert flow(workflow_id).status == whole
    assert (flow(workflow_id).error is None) == (whole == "succeeded")


def test_a_failure_that_cancels_stops_what_has_nothing_to_do_with_it() -> None:
    workflow_id = post_flow(
        a_step("a", task_type="fate", payload={"fail": True}, on_failure="cancel"), a_step("b", delay_s=3600)
    )
    work()
    assert states(workflow_id) == {"a": "failed", "b": "cancelled"}
    assert flow(workflow_id).status == "failed"
    assert "Task a failed" in flow(workflow_id).error


def test_what_does_not_depend_on_a_failure_goes_on() -> None:
    workflow_id = post_flow(
        a_step("a", task_type="fate", payload={"fail": True}), a_step("b", "a"), a_step("c"), a_step("d", "c")
    )
    work()
    assert states(workflow_id) == {"a": "failed", "b": "skipped", "c": "succeeded", "d": "succeeded"}
    assert flow(workflow_id).status == "failed"


def test_a_skipped_task_that_is_tolerated_lets_those_below_it_go() -> None:
    workflow_id = post_flow(
        a_step("a", task_type="fate", payload={"fail": True}),
        a_step("b", "a", on_failure="continue"), a_step("c", "b"),
    )  # fmt: skip
    work()
    assert states(workflow_id) == {"a": "failed", "b": "skipped", "c": "succeeded"}


def test_a_task_is_tried_again_and_its_chain_goes_on() -> None:
    workflow_id = post_flow(
        a_step("a"),
        a_step("b", "a", task_type="fate", payload={"fail_first": 1}, max_attempts=2, retry={"delay_s": 0}),
        a_step("c", "b"),
    )  # fmt: skip
    work()
    assert states(workflow_id) == {"a": "succeeded", "b": "succeeded", "c": "succeeded"}
    assert tasks_of(workflow_id)["b"].attempt == 2
    assert flow(workflow_id).status == "succeeded"


def test_no_more_than_max_running_are_in_flight() -> None:
    workflow_id = post_flow(*(a_step(f"t{n}") for n in range(7)), max_running=2)
    most = []

    def look(envelope: Envelope) -> bool:
        most.append(sum(state in ("queued", "running") for state in states(workflow_id).values()))
        return True

    work(keep=look)
    assert max(most) == 2
    assert flow(workflow_id).status == "succeeded"


def test_a_limit_counts_what_another_look_let_go() -> None:
    workflow_id = post_flow(*(a_step(f"t{n}", delay_s=3600 if n else 0) for n in range(3)), max_running=1)
    work(rounds=10, keep=lambda e: e.job == "workflows.advance")
    assert states(workflow_id)["t0"] == "queued"
    sql("UPDATE tasks SET available_at = now() WHERE workflow_id = :id", id=workflow_id)
    work_on(workflow_id, keep=lambda e: e.job == "workflows.advance")
    assert sorted(states(workflow_id).values()) == ["pending", "pending", "queued"]


def test_two_looks_at_once_let_go_no_more_than_there_is_room_for() -> None:
    workflow_id = post_flow(a_step("a"), a_step("b"), max_running=1)
    sql("UPDATE workflows SET status = 'running'")
    with transaction() as db:
        advance(db, workflow_id)
        other = Aside(lambda db: advance(db, workflow_id))
        eventually(other.is_blocked)
    other.join()
    assert sorted(states(workflow_id).values()) == ["pending", "queued"]


def test_an_agent_with_a_limit_lets_tasks_in_at_the_gateway_alone() -> None:
    employ(max_running=1)
    workflow_id = post_flow(a_step("a"), a_step("b", "a"), a_step("c", "b"))
    opened = work()
    assert flow(workflow_id).status == "succeeded"
    # The step finds the limit, and gives its task back.
    assert {e.job for e in opened} >= {"tasks.run", "workflows.advance"}
    for row in tasks_of(workflow_id).values():
        assert kinds(row.id) == ["accepted", "queued", "running", "succeeded"]


def test_an_agent_that_does_not_take_a_type_is_not_given_it_by_a_chain() -> None:
    employ(task_types=["echo"])
    workflow_id = post_flow(a_step("a"), a_step("b", "a", task_type="fate"))
    work()
    assert states(workflow_id) == {"a": "succeeded", "b": "pending"}
    assert tasks_of(workflow_id)["b"].carrier == "gateway"


def test_a_task_ends_by_the_deadline_of_its_workflow() -> None:
    past = sql("SELECT now() + interval '1 hour' AS at")[0].at
    workflow_id = post_flow(a_step("a", deadline=None), a_step("b", "a"), deadline=past)
    assert {row.deadline for row in tasks_of(workflow_id).values()} == {past}


def test_tasks_posted_apart_wait_for_a_workflows_task() -> None:
    from tests.support import post_one

    workflow_id = post_flow(a_step("a"), a_step("b", "a"))
    child = post_one(dependencies=[tasks_of(workflow_id)["b"].id])
    work()
    assert status(child) == "succeeded"
    assert flow(workflow_id).status == "succeeded"


def work_on(workflow_id: str, **options: Any) -> list[Envelope]:
    """Let the clock do its part, as if enough time had passed, and work on."""
    retry_now(workflow_id)
    return work(**options)


def _refuse(_: Any) -> None:
    raise OSError("Redis is away")
