"""Workflows from submission to their end, through chains and chords that go as they do in a worker."""

from __future__ import annotations

from tests.fleet import a_step, flow, order_of, post_flow, states, work


def test_a_chain_runs_in_its_order() -> None:
    workflow_id = post_flow(a_step("a"), a_step("b", "a"), a_step("c", "b"))
    opened = work()
    assert flow(workflow_id).status == "succeeded"
    assert order_of(workflow_id) == ["a", "b", "c"]
    print([(e.job, len(e.chain), bool(e.chord)) for e in opened])
    assert set(states(workflow_id).values()) == {"succeeded"}


def test_a_fork_joins() -> None:
    workflow_id = post_flow(a_step("a"), a_step("b", "a"), a_step("c", "a"), a_step("d", "b", "c"))
    opened = work()
    print([(e.job, len(e.chain), bool(e.chord)) for e in opened])
    assert flow(workflow_id).status == "succeeded"
    assert order_of(workflow_id)[-1] == "d"
