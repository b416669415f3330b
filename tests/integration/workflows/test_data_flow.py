"""References, conditions and maps, from parents' results into children's payloads."""

from __future__ import annotations

from typing import Any

from app.tasks.retry import Outcome
from app.workflows import graph
from tests.fleet import a_step, draw, flow, post_flow, retry_now, states, tasks_of, work
from tests.support import end, kinds, sql, take


def _ref(path: str, **beside: Any) -> dict[str, Any]:
    return {"$ref": path, **beside}


def test_results_flow_down_a_chain() -> None:
    workflow_id = post_flow(
        a_step("a", payload={"n": [1, {"deep": "x"}]}),
        a_step("b", "a", payload={"got": _ref("tasks.a.result.n[1].deep"), "who": _ref("workflow.name")}),
        a_step("c", "b", payload={"all": _ref("tasks.b.result"), "of": _ref("input.of"), "is": _ref("tasks.a.status")}),
        input={"of": [7]},
    )
    opened = work()
    assert tasks_of(workflow_id)["c"].result == {"all": {"got": "x", "who": "flow"}, "of": [7], "is": "succeeded"}
    assert [e.job for e in opened if e.job != "workflows.advance"] == ["tasks.run", "workflows.step", "workflows.step"]


def test_results_flow_into_a_join() -> None:
    workflow_id = post_flow(
        a_step("a", payload={"n": 1}), a_step("b", payload={"n": 2}),
        a_step("c", "a", "b", payload={"sum": [_ref("tasks.a.result.n"), _ref("tasks.b.result.n")]}),
    )  # fmt: skip
    assert any(e.chord for e in work())
    assert tasks_of(workflow_id)["c"].result == {"sum": [1, 2]}


def test_a_reference_that_leads_nowhere_fails_its_task_and_says_where() -> None:
    workflow_id = post_flow(
        a_step("a", payload={"n": 1}), a_step("b", "a", payload={"got": _ref("tasks.a.result.m.k")}), a_step("c", "b")
    )
    work()
    task = tasks_of(workflow_id)["b"]
    assert (task.status, task.attempt) == ("failed", 0)
    assert "tasks.a.result.m.k" in task.error
    assert kinds(task.id) == ["accepted", "failed"]
    assert states(workflow_id)["c"] == "skipped"
    assert flow(workflow_id).status == "failed"
    assert "tasks.a.result.m.k" in flow(workflow_id).error


def test_a_payload_that_does_not_suit_its_type_once_it_is_made_fails_its_task() -> None:
    workflow_id = post_flow(
        a_step("a", payload={"code": 5}), a_step("b", "a", task_type="python", payload=_ref_code("tasks.a.result.code"))
    )
    work()
    task = tasks_of(workflow_id)["b"]
    assert task.status == "failed"
    assert "code" in task.error


def _ref_code(path: str) -> dict[str, Any]:
    return {"code": _ref(path)}


def test_text_with_nul_does_not_come_into_a_payload() -> None:
    workflow_id = post_flow(
        a_step("a", payload={"text": '"\\u0000"'}),
        a_step("b", "a", payload={"got": _ref("tasks.a.result.text", decode="json")}),
    )
    work()
    assert states(workflow_id) == {"a": "succeeded", "b": "failed"}


def test_a_default_stands_in_for_a_task_that_failed() -> None:
    workflow_id = post_flow(
        a_step("a", task_type="fate", payload={"fail": True}, on_failure="continue"),
        a_step("b", "a", payload={"got": _ref("tasks.a.result.answer", default=3), "is": _ref("tasks.a.status")}),
    )
    work()
    assert tasks_of(workflow_id)["b"].result == {"got": 3, "is": "failed"}


def test_what_a_program_left_that_failed_is_no_result() -> None:
    workflow_id = post_flow(
        a_step("a", on_failure="continue"),
        a_step("b", "a", payload={"got": _ref("tasks.a.result.stdout", default=3)}),
    )
    draw("coordinator")[0].open()
    (claim,) = take(tasks_of(workflow_id)["a"].id)
    end((claim, Outcome(kind="failed", result={"stdout": "half"})))
    work()
    assert tasks_of(workflow_id)["a"].result == {"stdout": "half"}
    assert tasks_of(workflow_id)["b"].result == {"got": 3}


def test_the_items_that_succeeded_are_there_though_others_failed() -> None:
    workflow_id = post_flow(
        a_step(
            "m", task_type="fate", map=[False, True], on_failure="continue",
            payload={"fail": _ref("item"), "answer": _ref("index")},
        ),
        a_step("z", "m", payload={"got": _ref("tasks.m.result.items")}),
    )  # fmt: skip
    work()
    assert tasks_of(workflow_id)["z"].result == {"got": [{"answer": 0}, None]}


def test_a_condition_that_does_not_hold_skips_its_task_and_those_below() -> None:
    big = {"gt": [_ref("tasks.a.result.n"), 10]}
    workflow_id = post_flow(
        a_step("a", payload={"n": 5}), a_step("b", "a", when=big), a_step("c", "b"), a_step("d", "a", when={"not": big})
    )
    work()
    assert states(workflow_id) == {"a": "succeeded", "b": "skipped", "c": "skipped", "d": "succeeded"}
    assert flow(workflow_id).status == "succeeded"
    assert kinds(tasks_of(workflow_id)["b"].id) == ["accepted", "skipped"]


def test_after_either_of_two_branches_a_join_goes_on() -> None:
    pick = {"eq": [_ref("input.pick"), "b"]}
    workflow_id = post_flow(
        a_step("a"),
        a_step("b", "a", when=pick, on_failure="continue"), a_step("c", "a", when={"not": pick}, on_failure="continue"),
        a_step("d", "b", "c"),
        input={"pick": "b"},
    )  # fmt: skip
    work()
    assert states(workflow_id) == {"a": "succeeded", "b": "succeeded", "c": "skipped", "d": "succeeded"}


def test_a_condition_that_cannot_be_told_fails_its_task() -> None:
    workflow_id = post_flow(
        a_step("a", payload={"n": "x"}), a_step("b", "a", when={"gt": [_ref("tasks.a.result.n"), 1]})
    )
    work()
    assert states(workflow_id)["b"] == "failed"


def test_a_map_does_its_task_for_each_element_and_collects() -> None:
    workflow_id = post_flow(
        a_step("a", payload={"words": ["x", "y", "z"]}),
        a_step("m", "a", map=_ref("tasks.a.result.words"), payload={"word": _ref("item"), "place": _ref("index")}),
        a_step("z", "m", payload={"first": _ref("tasks.m.result.items[0].word"), "all": _ref("tasks.m.result.items")}),
    )
    work()
    assert states(workflow_id) == dict.fromkeys(("a", "m", "z", "m[0]", "m[1]", "m[2]"), "succeeded")
    made = [{"word": word, "place": place} for place, word in enumerate("xyz")]
    assert tasks_of(workflow_id)["z"].result == {"first": "x", "all": made}
    assert kinds(tasks_of(workflow_id)["m"].id) == ["accepted", "succeeded"]
    assert tasks_of(workflow_id)["m[1]"].position == 1


def test_a_map_over_nothing_succeeds_at_once() -> None:
    workflow_id = post_flow(a_step("m", map=[]), a_step("z", "m", payload={"all": _ref("tasks.m.result.items")}))
    work()
    assert tasks_of(workflow_id)["z"].result == {"all": []}


def test_an_item_that_fails_fails_its_map_but_not_the_others() -> None:
    workflow_id = post_flow(
        a_step(
            "m", task_type="fate", map=[False, True, False], payload={"fail": _ref("item"), "answer": _ref("index")}
        ),
        a_step("z", "m"),
    )
    work()
    task = tasks_of(workflow_id)["m"]
    assert task.status == "failed"
    assert task.result == {"items": [{"answer": 0}, None, {"answer": 2}]}
    assert "m[1]" in task.error
    assert states(workflow_id)["z"] == "skipped"


def test_a_map_takes_a_list_and_no_more_than_a_thousand_of_it() -> None:
    workflow_id = post_flow(
        a_step("a", payload={"n": 5, "many": list(range(graph.MAX_ITEMS + 1))}),
        a_step("m", "a", map=_ref("tasks.a.result.n")),
        a_step("l", "a", map=_ref("tasks.a.result.many")),
    )
    work()
    assert states(workflow_id) == {"a": "succeeded", "m": "failed", "l": "failed"}
    assert "1001" in tasks_of(workflow_id)["l"].error


def test_a_map_with_a_condition_is_skipped_whole() -> None:
    workflow_id = post_flow(a_step("m", map=[1, 2], when=False))
    work()
    assert states(workflow_id) == {"m": "skipped"}


def test_items_keep_to_the_limit_of_their_workflow() -> None:
    workflow_id = post_flow(a_step("m", map=list(range(6)), payload={"n": _ref("item")}), max_running=2)
    most: list[int] = []

    def look(_: Any) -> bool:
        most.append(sum(state in ("queued", "running") for state in states(workflow_id).values()))
        return True

    work(keep=look)
    assert max(most) == 2
    assert flow(workflow_id).status == "succeeded"


def test_a_payload_is_made_again_for_what_was_let_go_and_lost() -> None:
    workflow_id = post_flow(a_step("a", payload={"n": 1}), a_step("b", "a", payload={"got": _ref("tasks.a.result.n")}))
    work(keep=lambda envelope: envelope.job != "workflows.step")
    assert states(workflow_id) == {"a": "succeeded", "b": "pending"}
    retry_now(workflow_id)
    work()
    assert tasks_of(workflow_id)["b"].result == {"got": 1}


def test_a_template_is_kept_as_it_was_posted() -> None:
    workflow_id = post_flow(a_step("a"), a_step("b", "a", payload={"got": _ref("tasks.a.result.key")}))
    (before,) = sql("SELECT document FROM workflows WHERE id = :id", id=workflow_id)
    work()
    assert tasks_of(workflow_id)["b"].rules == {"payload": {"got": {"$ref": "tasks.a.result.key"}}}
    assert sql("SELECT document FROM workflows WHERE id = :id", id=workflow_id) == [before]
