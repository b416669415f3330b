"""Nothing that a document says, however large or odd, keeps its workflow or another's from being looked at."""

from __future__ import annotations

from typing import Any

import pytest

from app.db import transaction
from app.errors import Invalid
from app.workflows import advance as advance_
from app.workflows import control, maps, payloads
from app.workflows.payloads import scope_of
from tests.fleet import a_step, flow, post_flow, states, tasks_of, work
from tests.support import sql
from workers import coordinator


def _ref(path: str, **beside: Any) -> dict[str, Any]:
    return {"$ref": path, **beside}


def test_a_look_that_fails_keeps_no_other_from_being_looked_at(clawq: pytest.MonkeyPatch) -> None:
    first, second = post_flow(a_step("a")), post_flow(a_step("a"))
    real = advance_.advance

    def broken(db: Any, workflow_id: str) -> None:
        if workflow_id == first:
            raise RuntimeError("broken")
        real(db, workflow_id)

    clawq.setattr(coordinator, "advance", broken)
    coordinator.advance_workflows([first, second])
    work()
    assert (flow(first).status, flow(second).status) == ("pending", "succeeded")


def test_a_task_that_cannot_be_prepared_fails_and_its_workflow_ends(clawq: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> None:
        raise RecursionError

    clawq.setattr("app.workflows.prepare.made", broken)
    workflow_id = post_flow(a_step("a", payload={"x": _ref("input.x")}, on_failure="continue"), a_step("b", "a"))
    work()
    assert states(workflow_id) == {"a": "failed", "b": "succeeded"}


@pytest.mark.parametrize("path", ['input["\\ud800"]', 'tasks["\\ud800"].result', 'input["\\u0000"]'])
def test_a_path_that_cannot_be_stored_is_refused(path: str) -> None:
    with pytest.raises(Invalid):
        post_flow(a_step("a", payload={"x": _ref(path)}))


def test_no_more_than_a_hundred_problems_are_told() -> None:
    with pytest.raises(Invalid) as caught:
        post_flow(*(a_step(f"t{n}", payload={"x": _ref("nowhere")}) for n in range(300)))
    assert len(caught.value.problems) == 100


def test_a_long_chain_is_cancelled_in_one_statement_of_bounded_time() -> None:
    workflow_id = post_flow(*(a_step(f"t{n}", *([f"t{n - 1}"] if n else [])) for n in range(9800)))
    with transaction() as db:
        assert control.cancel(db, workflow_id) == "cancelled"
    assert set(states(workflow_id).values()) == {"cancelled"}


def test_a_long_chain_is_skipped_in_one_statement_of_bounded_time() -> None:
    steps = [a_step(f"t{n}", f"t{n - 1}") for n in range(1, 9800)]
    workflow_id = post_flow(a_step("t0", when=False), *(a_step(f"r{n}", when=False) for n in range(100)), *steps)
    work()
    assert set(states(workflow_id).values()) == {"skipped"}
    assert flow(workflow_id).status == "succeeded"
    assert tasks_of(workflow_id)["t5"].error == "Parent t4 did not succeed."


def test_results_are_read_only_where_they_are_named() -> None:
    workflow_id = post_flow(a_step("a"), a_step("b"), a_step("c", "a", "b"))
    work()
    with transaction() as db:
        scope = scope_of(db, workflow_id, [{"payload": [_ref("tasks.a.status"), _ref("tasks.b.result.key")]}])
    assert scope.tasks["a"].result is None
    assert scope.tasks["a"].status == "succeeded"
    assert scope.tasks["b"].result == {"key": "b"}


def test_results_that_are_too_large_together_fail_only_who_names_them(clawq: pytest.MonkeyPatch) -> None:
    clawq.setattr(payloads, "MAX_SCOPE_BYTES", 100)
    workflow_id = post_flow(
        a_step("a", payload={"text": "x" * 100}), a_step("b", payload={"text": "y"}),
        a_step("large", "a", "b", payload={"got": _ref("tasks.a.result.text")}),
        a_step("small", "a", "b", payload={"got": _ref("tasks.b.result.text")}),
    )  # fmt: skip
    work()
    assert states(workflow_id) == {"a": "succeeded", "b": "succeeded", "large": "failed", "small": "succeeded"}
    assert "larger than" in tasks_of(workflow_id)["large"].error


def test_a_map_whose_items_are_too_large_together_leaves_none_behind(clawq: pytest.MonkeyPatch) -> None:
    clawq.setattr(maps, "MAX_ITEMS_BYTES", 5000)
    workflow_id = post_flow(
        a_step("m", map=list(range(maps._BATCH * 2)), payload={"text": "x" * 80, "n": _ref("item")})
    )
    work()
    assert states(workflow_id) == {"m": "failed"}
    assert "together" in tasks_of(workflow_id)["m"].error


def test_the_maps_of_a_workflow_make_a_bounded_number_of_items(clawq: pytest.MonkeyPatch) -> None:
    clawq.setattr(maps, "MAX_ALL_ITEMS", 5)
    workflow_id = post_flow(a_step("a", map=[1, 2, 3]), a_step("b", "a", map=[1, 2, 3]))
    work()
    assert states(workflow_id)["a"] == "succeeded"
    assert "at most 5 items together" in tasks_of(workflow_id)["b"].error


def test_items_come_in_their_order_however_many_are_written_at_once() -> None:
    workflow_id = post_flow(a_step("m", map=list(range(120)), payload={"n": _ref("item"), "i": _ref("index")}))
    work()
    assert tasks_of(workflow_id)["m"].result == {"items": [{"n": n, "i": n} for n in range(120)]}
    rows = sql("SELECT key, position FROM tasks WHERE mapped_from IS NOT NULL ORDER BY id")
    assert [(row.key, row.position) for row in rows] == [(f"m[{n}]", n) for n in range(120)]


def test_a_wave_that_is_too_wide_for_one_look_goes_in_several(clawq: pytest.MonkeyPatch) -> None:
    clawq.setattr(advance_, "_BATCH", 2)
    clawq.setattr(advance_, "_ROUNDS", 2)
    workflow_id = post_flow(*(a_step(f"t{n}") for n in range(11)))
    looks = [envelope for envelope in work() if envelope.job == "workflows.advance"]
    assert len(looks) >= 3
    assert flow(workflow_id).status == "succeeded"


def test_a_failure_that_cancels_stops_what_was_ready_in_the_same_look() -> None:
    workflow_id = post_flow(
        a_step("x", payload={"got": _ref("input.nothing")}, on_failure="cancel"), *(a_step(f"k{n}") for n in range(3))
    )
    opened = work()
    assert states(workflow_id) == {"x": "failed", "k0": "cancelled", "k1": "cancelled", "k2": "cancelled"}
    assert {envelope.job for envelope in opened} == {"workflows.advance"}
