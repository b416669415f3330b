"""Explain: why a task waits, in words that are true."""

from __future__ import annotations

import pytest

from app import agents
from app.db import transaction
from app.settings import settings
from app.tasks.explain import Reason, explain
from app.tasks.find import get
from tests.support import FAILED, employ, end, let_in, post_one, put, running, sql, status

pytestmark = pytest.mark.usefixtures("clawq")

CODE = {"task_type": "python", "payload": {"code": "1"}}


def why(task_id: str) -> list[Reason]:
    with transaction() as db:
        return explain(db, get(db, task_id, None))


def reason_kinds(task_id: str) -> list[str]:
    return [reason.kind for reason in why(task_id)]


@pytest.fixture(autouse=True)
def _fleet(clawq: pytest.MonkeyPatch) -> None:
    employ("gateway")
    employ()


def test_a_task_that_nothing_holds_up_waits_for_admission_alone() -> None:
    assert reason_kinds(post_one()) == ["admission"]


def test_a_child_names_the_parents_it_waits_for() -> None:
    parent = running()
    (reason,) = why(post_one(dependencies=[parent.id]))
    assert (reason.kind, reason.refs) == ("parent", {"task_id": parent.id, "status": "running"})


def test_a_delayed_task_says_until_when_and_a_retry_after_what() -> None:
    (reason,) = why(post_one(delay_s=60))
    assert reason.kind == "time"
    assert reason.detail.endswith("as asked.")
    ours = running(max_attempts=2)
    end((ours, FAILED))
    assert why(ours.id)[0].detail.endswith("after failure 1.")


def test_workers_that_were_told_to_take_nothing_are_no_help() -> None:
    task_id = put("queued")
    assert "when a slot is free" in why(task_id)[0].detail
    sql("UPDATE workers SET info = '{\"consuming\": false}' WHERE role = 'execution'")
    (reason,) = why(task_id)
    assert reason.kind == "worker"
    assert "add_consumer execution" in reason.detail
    employ(agent_id="another")
    assert "when a slot is free" in why(task_id)[0].detail


def test_without_workers_it_says_which_are_missing() -> None:
    sql("DELETE FROM workers")
    with transaction() as db:
        agents.sweep(db)
    reasons = why(post_one())
    assert [reason.kind for reason in reasons] == ["worker", "worker"]
    assert "execution" in reasons[0].detail
    assert "gateway" in reasons[1].detail


def test_a_full_queue_says_so(clawq: pytest.MonkeyPatch) -> None:
    clawq.setenv("CLAWQ_WINDOW", "1")
    settings.cache_clear()
    post_one()
    let_in()
    assert reason_kinds(post_one()) == ["room"]


def test_a_pinned_task_tells_what_its_agent_lacks() -> None:
    task_id = post_one(assigned_to="execution_agent")
    for policy, kind in (({"max_running": 0}, "limit"), ({"task_types": ["python"]}, "agent")):
        with transaction() as db:
            agents.update(db, "execution_agent", configuration=policy)
        let_in()
        assert (reason_kinds(task_id), status(task_id)) == ([kind], "pending")
    sql("UPDATE agents SET status = 'inactive' WHERE id = 'execution_agent'")
    assert reason_kinds(task_id) == ["agent"]


def test_a_task_pinned_to_a_user_s_agent_needs_a_worker_all_the_same() -> None:
    with transaction() as db:
        mine = agents.create(db, name="critic", role="critic", goal="g", agent_type="critic").id
    sql("DELETE FROM workers WHERE role = 'execution'")
    with transaction() as db:
        agents.sweep(db)
    task_id = post_one(assigned_to=mine)
    let_in()
    assert (reason_kinds(task_id), status(task_id)) == (["worker"], "pending")


@pytest.mark.parametrize(("policy", "kind"), [({"task_types": ["echo"]}, "agent"), ({"max_running": 0}, "limit")])
def test_an_unassigned_task_tells_why_no_agent_takes_it(policy: dict, kind: str) -> None:
    with transaction() as db:
        agents.update(db, "execution_agent", configuration=policy)
    task_id = post_one(**CODE)
    let_in()
    assert (reason_kinds(task_id), status(task_id)) == ([kind], "pending")
    employ(agent_id="free")
    assert reason_kinds(task_id) == ["admission"]


def test_a_queued_task_waits_for_a_slot_or_for_a_worker() -> None:
    task_id = put("queued")
    assert reason_kinds(task_id) == ["worker"]
    assert "when a slot is free" in why(task_id)[0].detail
    sql("DELETE FROM workers WHERE role = 'execution'")
    assert why(task_id)[0].detail == "No worker serves queue execution."


def test_a_running_task_names_its_holder_and_a_cancel_on_its_way() -> None:
    ours = running()
    (reason,) = why(ours.id)
    assert (reason.kind, reason.refs) == ("lease", {"worker": "execution@test", "attempt": 1})
    sql("UPDATE tasks SET cancel_requested_at = now()")
    assert reason_kinds(ours.id) == ["lease", "cancel"]


@pytest.mark.parametrize("state", ["succeeded", "failed", "cancelled", "skipped"])
def test_a_task_that_has_ended_waits_for_nothing(state: str) -> None:
    assert why(put(state)) == []
