"""What is accepted, and that what is not leaves nothing behind."""

from __future__ import annotations

from typing import Any

import pytest

from app.errors import Invalid, NotFound
from app.workflows.asked import NewStep
from tests.fleet import a_step, flow, post_flow, tasks_of
from tests.support import employ, envelopes, kinds, scalar, sql


def _nothing_stored() -> bool:
    return scalar("SELECT (SELECT count(*) FROM workflows) + (SELECT count(*) FROM tasks)") == 0


def _refused(*steps: NewStep, **values: Any) -> dict[tuple[str | int, ...], str]:
    with pytest.raises(Invalid) as caught:
        post_flow(*steps, **values)
    assert _nothing_stored()
    assert envelopes("coordinator") == []
    return {problem.loc: problem.msg for problem in caught.value.problems}


def test_what_is_stored() -> None:
    workflow_id = post_flow(
        a_step("b", "a", payload={"n": {"$ref": "input.n"}}, when=True, on_failure="continue", retry={"delay_s": 2}),
        a_step("a", priority="high", labels={"k": "v"}, description="first", max_attempts=3),
        input={"n": 1}, document={"name": "flow"}, labels={"l": "w"}, max_running=5,
    )  # fmt: skip
    tasks = tasks_of(workflow_id)
    a, b = tasks["a"], tasks["b"]
    assert (a.deps_left, b.deps_left, b.dependencies) == (0, 1, [a.id])
    assert (a.priority, a.labels, a.description, a.max_attempts) == ("high", {"k": "v"}, "first", 3)
    assert (b.on_failure, b.retry, b.rules) == (
        "continue", {"delay_s": 2}, {"when": True, "payload": {"n": {"$ref": "input.n"}}},
    )  # fmt: skip
    assert a.rules is None
    assert {a.carrier, b.carrier} == {"coordinator"}
    assert kinds(a.id) == kinds(b.id) == ["accepted"]
    stored = flow(workflow_id)
    assert (stored.status, stored.input, stored.labels, stored.max_running) == ("pending", {"n": 1}, {"l": "w"}, 5)


def test_parents_come_before_children_in_the_order_of_ids() -> None:
    # Rows are locked in that order.
    steps = [a_step(f"t{n}", *([f"t{n + 1}"] if n < 2500 else [])) for n in range(2501)]
    workflow_id = post_flow(*steps)
    ids = sql("SELECT key FROM tasks WHERE workflow_id = :id ORDER BY id", id=workflow_id)
    assert [row.key for row in ids] == [f"t{n}" for n in reversed(range(2501))]


def test_a_cycle_is_named() -> None:
    found = _refused(a_step("a", "c"), a_step("b", "a"), a_step("c", "b"), a_step("d"))
    ((loc, msg),) = found.items()
    assert loc == ("tasks", 0, "depends_on", 0)
    assert "a → c → b → a" in msg


def test_unknown_and_doubled_keys_and_oneself() -> None:
    found = _refused(a_step("a", "a"), a_step("b", "x"), a_step("b"))
    assert set(found) == {("tasks", 0, "depends_on", 0), ("tasks", 1, "depends_on", 0), ("tasks", 2, "key")}


def test_a_reference_to_what_does_not_end_before() -> None:
    ref = {"$ref": "tasks.b.result"}
    found = _refused(
        a_step("a", payload={"x": ref}), a_step("b"), a_step("c", when={"exists": {"$ref": "tasks.z.result"}})
    )
    assert found == {
        ("tasks", 0): "refers to tasks.b, but b does not end before it: name it in depends_on",
        ("tasks", 2): "refers to tasks.z, but no task z",
    }


def test_references_reach_all_ancestors() -> None:
    assert post_flow(a_step("a"), a_step("b", "a"), a_step("c", "b", payload={"x": {"$ref": "tasks.a.result.key"}}))


@pytest.mark.parametrize(("step", "loc"), [
    ({"payload": {"x": {"$ref": "nowhere.at.all"}}}, ("tasks", 0, "payload", "x", "$ref")),
    ({"payload": {"x": {"$ref": "item"}}}, ("tasks", 0, "payload", "x", "$ref")),
    ({"when": {"like": [1, 2]}}, ("tasks", 0, "when")),
    ({"when": {"eq": [1]}}, ("tasks", 0, "when", "eq")),
    ({"map": {"a": 1}}, ("tasks", 0, "map")),
    ({"map": {"$ref": "item"}}, ("tasks", 0, "map", "$ref")),
    ({"task_type": "nothing"}, ("tasks", 0, "task_type")),
    ({"task_type": "nothing", "payload": {"x": {"$ref": "input.x"}}}, ("tasks", 0, "task_type")),
    ({"task_type": "python", "payload": {"code": 5}}, ("tasks", 0, "payload", "code")),
    ({"assigned_to": "nobody"}, ("tasks", 0, "assigned_to")),
])  # fmt: skip
def test_where_it_is_wrong(step: dict[str, Any], loc: tuple[str | int, ...]) -> None:
    assert loc in _refused(a_step("a", **step))


def test_a_payload_with_references_is_looked_at_once_it_is_made() -> None:
    assert post_flow(a_step("a", task_type="python", payload={"code": {"$ref": "input.code"}}), input={"code": "1"})


def test_a_foreign_session_does_not_exist() -> None:
    sql("INSERT INTO sessions (id, owner, user_id, session_type, status) VALUES ('s', 'eve', 'eve', 'x', 'active')")
    with pytest.raises(NotFound):
        post_flow(a_step("a"), session_id="s")
    assert _nothing_stored()


def test_an_agent_of_another_role_takes_its_tasks_to_its_queue() -> None:
    employ("memory", "m1")
    workflow_id = post_flow(a_step("a", assigned_to="m1"))
    assert tasks_of(workflow_id)["a"].queue == "memory"


def test_ten_thousand_tasks_and_no_more() -> None:
    assert "10000" in _refused(*(a_step(f"t{n}") for n in range(10_001)))[("tasks",)]
