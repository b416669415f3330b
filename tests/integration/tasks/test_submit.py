"""Submit: all or none, only what can be met, and the bell after commit."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from app import agents
from app.db import transaction
from app.errors import ClawqError, Invalid, NotFound
from app.queues import ADMIT
from app.tasks import check as check_
from app.tasks.check import NewTask
from app.tasks.finish import finish
from app.tasks.submit import submit
from schema.sessions import Session
from tests.support import (
    OWNER,
    STATES,
    SUCCEEDED,
    Aside,
    a_task,
    employ,
    envelopes,
    events,
    eventually,
    kinds,
    post,
    post_one,
    put,
    row,
    running,
    scalar,
    status,
)  # fmt: skip

pytestmark = pytest.mark.usefixtures("clawq")


def problems(*tasks: NewTask, owner: str = OWNER, kind: type[ClawqError] = Invalid) -> list[tuple[str | int, ...]]:
    """Where the problems of tasks that are refused lie."""
    with pytest.raises(kind) as caught:
        post(*tasks, owner=owner)
    return [problem.loc for problem in caught.value.problems]


def test_a_task_is_written_as_it_was_asked_for_with_its_first_event() -> None:
    deadline = datetime.now(UTC).replace(microsecond=123456) + timedelta(hours=1)
    task_id = post_one(
        task_type="python", payload={"code": "é\n"}, description="d", priority="high", deadline=deadline,
        max_attempts=3, labels={"a": "b"},
    )  # fmt: skip
    task = row(task_id)
    assert (task.owner, task.task_type, task.payload, task.description) == (OWNER, "python", {"code": "é\n"}, "d")
    assert (task.priority, task.priority_rank, task.deadline, task.max_attempts) == ("high", 0, deadline, 3)
    assert (task.labels, task.queue, task.status, task.progress) == ({"a": "b"}, "execution", "pending", 0)
    assert (task.round, task.attempt, task.failures, task.pinned) == (1, 0, 0, False)
    assert task.dependencies is None
    assert kinds(task_id) == ["accepted"]


def test_ids_come_back_in_the_order_given() -> None:
    ids = post(*(a_task(description=str(n)) for n in range(200)))
    assert [row(i).description for i in ids] == [str(n) for n in range(200)]


def test_one_task_that_cannot_be_accepted_refuses_all() -> None:
    assert problems(a_task(), a_task(task_type="perl"), a_task(), a_task(max_attempts=1, assigned_to="none")) == [
        (1, "task_type"),
        (3, "assigned_to"),
    ]
    assert scalar("SELECT count(*) FROM tasks") == 0
    assert scalar("SELECT count(*) FROM events") == 0


def test_every_problem_of_a_task_is_told() -> None:
    parent = post_one()
    found = problems(a_task(task_type="python", payload={"argv": []}, dependencies=[parent] * 2, assigned_to="a"))
    assert {loc[1] for loc in found} == {"payload", "dependencies", "assigned_to"}


def test_everything_that_is_missing_is_told() -> None:
    found = problems(a_task(dependencies=["x", post_one(), "y"], session_id="s"), kind=NotFound)
    assert found == [(0, "dependencies", 0), (0, "dependencies", 2), (0, "session_id")]


def test_so_many_tasks_wait_for_one_and_no_more(clawq: pytest.MonkeyPatch) -> None:
    clawq.setattr(check_, "MAX_CHILDREN", 3)
    parent = post_one()
    post(*(a_task(dependencies=[parent]) for _ in range(2)))
    assert problems(*(a_task(dependencies=[parent]) for _ in range(2))) == [
        (0, "dependencies", 0),
        (1, "dependencies", 0),
    ]
    post_one(dependencies=[parent])
    assert problems(a_task(dependencies=[parent])) == [(0, "dependencies", 0)]
    assert scalar("SELECT count(*) FROM edges") == 3


def test_a_delayed_task_is_not_due_before() -> None:
    task_id = post_one(delay_s=3600)
    assert scalar("SELECT available_at - created_at = interval '1 hour' FROM tasks WHERE id = :id", id=task_id), (
        "the delay counts from Postgres' own time"
    )


@pytest.mark.parametrize("state", STATES)
def test_a_parent_must_be_able_to_succeed_still(state: str) -> None:
    parent = put(state)
    if state in ("failed", "cancelled", "skipped"):
        assert problems(a_task(dependencies=[parent])) == [(0, "dependencies", 0)]
        return
    child = post_one(dependencies=[parent])
    waits = state != "succeeded"
    assert row(child).deps_left == int(waits)
    assert row(child).dependencies == [parent]
    assert scalar("SELECT count(*) FROM edges WHERE child_id = :id", id=child) == int(waits)


def test_another_owner_s_task_is_no_parent() -> None:
    parent = post_one(owner="eve")
    assert problems(a_task(dependencies=[parent]), kind=NotFound) == [(0, "dependencies", 0)]


def test_a_session_must_be_active_and_the_owner_s() -> None:
    with transaction() as db:
        db.add_all(
            [
                Session(id="mine", owner=OWNER, session_type="chat"),
                Session(id="closed", owner=OWNER, session_type="chat", status="closed"),
                Session(id="hers", owner="eve", session_type="chat"),
            ]
        )
    assert row(post_one(session_id="mine")).session_id == "mine"
    assert problems(a_task(session_id="closed")) == [(0, "session_id")]
    for other in ("hers", "none"):
        assert problems(a_task(session_id=other), kind=NotFound) == [(0, "session_id")]


def test_an_agent_s_policy_is_applied_when_it_is_named() -> None:
    employ(task_types=["echo"])
    task = row(post_one(assigned_to="execution_agent"))
    assert (task.assigned_to, task.pinned) == ("execution_agent", True)
    code = a_task(task_type="python", payload={"code": "1"}, assigned_to="execution_agent")
    assert problems(code) == [(0, "assigned_to")]


def test_a_task_goes_to_the_queue_of_its_agent_s_role_if_that_runs_it() -> None:
    employ("memory")
    with transaction() as db:
        mine = agents.create(db, name="critic", role="critic", goal="criticise", agent_type="critic").id
    assert row(post_one(assigned_to="memory_agent")).queue == "memory"
    assert row(post_one(assigned_to="memory_agent", task_type="python", payload={"code": "1"})).queue == "execution"
    assert row(post_one(assigned_to=mine)).queue == "execution"


def test_the_gateway_is_rung_once_however_many_are_posted() -> None:
    for _ in range(5):
        post(*[a_task()] * 10)
    assert envelopes("gateway") == [(ADMIT, [])]


def test_a_submit_that_is_rolled_back_leaves_no_row_and_rings_nobody() -> None:
    def change_of_mind() -> None:
        with transaction() as db:
            submit(db, OWNER, [a_task()])
            raise RuntimeError("after all not")

    with pytest.raises(RuntimeError):
        change_of_mind()
    assert scalar("SELECT count(*) FROM tasks") == 0
    assert envelopes("gateway") == []


def test_a_submit_waits_for_a_parent_that_is_ending_and_misses_no_release() -> None:
    parent = running()
    with transaction() as db:
        finish(db, [(parent, SUCCEEDED)])
        child = Aside(lambda other: submit(other, OWNER, [a_task(dependencies=[parent.id])]))
        eventually(child.is_blocked)
    (child_id,) = child.join()
    assert row(child_id).deps_left == 0


def test_an_end_waits_for_a_child_that_is_being_added_and_releases_it() -> None:
    parent = running()
    with transaction() as db:
        (child_id,) = submit(db, OWNER, [a_task(dependencies=[parent.id])])
        ending = Aside(lambda other: finish(other, [(parent, SUCCEEDED)]))
        eventually(ending.is_blocked)
    assert ending.join() == {parent.id}
    assert row(child_id).deps_left == 0


def test_the_first_event_says_when() -> None:
    task_id = post_one()
    (event,) = events(task_id)
    assert (event.kind, event.round, event.attempt, event.data) == ("accepted", 1, 0, {})
    assert event.at == row(task_id).created_at
    assert status(task_id) == "pending"
