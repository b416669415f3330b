"""Admit: priority, owners' turns, limits and room, decided over a backlog that stays in Postgres."""

from __future__ import annotations

from functools import partial

import pytest

from app import agents
from app.db import transaction
from app.queues import RUN
from app.settings import settings
from app.tasks import admit as admit_
from app.tasks.cancel import cancel
from app.tasks.submit import submit
from tests.support import (
    OWNER,
    SUCCEEDED,
    Aside,
    a_task,
    employ,
    empty_redis,
    end,
    envelopes,
    events,
    eventually,
    kinds,
    let_in,
    post,
    post_one,
    put,
    row,
    running,
    scalar,
    sql,
    status,
    take,
    together,
)  # fmt: skip

pytestmark = pytest.mark.usefixtures("clawq")

CODE = {"task_type": "python", "payload": {"code": "1"}}


def window(environment: pytest.MonkeyPatch, size: int) -> None:
    environment.setenv("CLAWQ_WINDOW", str(size))
    settings.cache_clear()


def in_order() -> list[str]:
    """Descriptions of what is admitted one by one through a window of one."""
    admitted = []
    while True:
        empty_redis()
        let_in()
        found = sql("SELECT id, description FROM tasks WHERE status = 'queued'")
        if not found:
            return admitted
        ((task_id, description),) = found
        admitted.append(description)
        end((take(task_id)[0], SUCCEEDED))


def test_an_admitted_task_has_an_agent_an_event_and_an_envelope() -> None:
    employ()
    task_id = post_one(**CODE)
    assert let_in() is False
    task = row(task_id)
    assert (task.status, task.assigned_to, task.dispatches) == ("queued", "execution_agent", 1)
    assert scalar("SELECT next_dispatch_at - last_dispatched_at = interval '30 s' FROM tasks")
    assert events(task_id)[-1].data == {"queue": "execution", "agent": "execution_agent"}
    assert envelopes("execution") == [(RUN, [[task_id]])]


def test_inline_tasks_share_an_envelope() -> None:
    employ()
    ids = post(*[a_task()] * 3, a_task(**CODE))
    let_in()
    sent = sorted((sorted(args[0]) for _, args in envelopes("execution")), key=len)
    assert sent == [[ids[3]], sorted(ids[:3])]


def test_nothing_is_admitted_while_no_agent_of_the_role_is_active() -> None:
    employ("memory")
    task_id = post_one()
    assert let_in() is False
    assert status(task_id) == "pending"
    assert envelopes("execution") == []


def test_high_priority_comes_first_and_age_decides_within_one(clawq: pytest.MonkeyPatch) -> None:
    window(clawq, 1)
    employ()
    for name in ("low", "normal", "high", "low", "normal", "high"):
        post_one(priority=name, description=f"{name}{scalar('SELECT count(*) FROM tasks')}")
    assert in_order() == ["high2", "high5", "normal1", "normal4", "low0", "low3"]


def test_owners_take_turns_whatever_one_of_them_has_posted(clawq: pytest.MonkeyPatch) -> None:
    window(clawq, 1)
    employ()
    for n in range(4):
        post_one(owner="ada", description=f"a{n}")
    post_one(owner="bob", description="b0")
    post_one(owner="cyd", description="c0")
    # Within one pass owners take turns; the passes here are of one task, so the oldest head leads.
    admitted = in_order()
    assert sorted(admitted) == ["a0", "a1", "a2", "a3", "b0", "c0"]
    assert admitted.index("a0") < admitted.index("a1") < admitted.index("a2")


def test_a_full_house_shares_its_room_between_owners(clawq: pytest.MonkeyPatch) -> None:
    window(clawq, 6)
    employ()
    many = post(*[a_task()] * 50, owner="ada")
    few = post(*[a_task()] * 3, owner="bob")
    let_in()
    assert sum(status(i) == "queued" for i in few) == 3
    assert sum(status(i) == "queued" for i in many) == 3


def test_a_queue_holds_no_more_than_its_window(clawq: pytest.MonkeyPatch) -> None:
    window(clawq, 5)
    employ()
    employ("memory")
    post(*[a_task()] * 8)
    post(*[a_task(assigned_to="memory_agent")] * 8)
    let_in()
    let_in()
    assert sql("SELECT queue, count(*) FROM tasks WHERE status = 'queued' GROUP BY queue ORDER BY queue") == [
        ("execution", 5),
        ("memory", 5),
    ]


def test_two_gateways_at_once_fill_the_window_once(clawq: pytest.MonkeyPatch) -> None:
    window(clawq, 10)
    employ(max_running=7)
    ids = post(*[a_task()] * 30)
    together(*[let_in] * 6)
    assert scalar("SELECT count(*) FROM tasks WHERE status = 'queued'") == 7
    assert all(kinds(i) in (["accepted"], ["accepted", "queued"]) for i in ids)
    assert sum(len(args[0]) for _, args in envelopes("execution")) == 7


def test_an_admission_waits_for_the_one_before_it_and_counts_what_that_admitted(clawq: pytest.MonkeyPatch) -> None:
    window(clawq, 5)
    employ()
    post(*[a_task()] * 20)
    with transaction() as db:
        admit_.admit(db)
        second = Aside(admit_.admit)
        eventually(second.is_blocked)
    second.join()
    assert scalar("SELECT count(*) FROM tasks WHERE status = 'queued'") == 5


def test_an_admission_does_not_fill_the_room_of_one_that_is_under_way(clawq: pytest.MonkeyPatch) -> None:
    window(clawq, 5)
    employ()
    post(*[a_task()] * 20)
    with transaction() as db:
        admit_.admit(db)
        # Better ones, which no lock on rows keeps the second admission from.
        post(*[a_task(priority="high")] * 20)
        second = Aside(admit_.admit)
        eventually(lambda: second.is_blocked() or second.is_over())
    second.join()
    assert scalar("SELECT count(*) FROM tasks WHERE status = 'queued'") == 5


def test_an_agent_s_limit_counts_what_waits_for_it_and_what_it_runs() -> None:
    employ(max_running=2)
    first, second, third = post(*[a_task()] * 3)
    let_in()
    (ours,) = take(first)
    let_in()
    assert [status(i) for i in (first, second, third)] == ["running", "queued", "pending"]
    end((ours, SUCCEEDED))
    let_in()
    assert status(third) == "queued"


def test_work_goes_to_the_agent_that_has_least() -> None:
    employ(agent_id="a")
    employ(agent_id="b")
    post(*[a_task(assigned_to="a")] * 4)
    let_in()
    ids = post(*[a_task()] * 6)
    let_in()
    assert [row(i).assigned_to for i in ids].count("b") == 5


def test_a_pinned_task_waits_for_its_agent() -> None:
    employ()
    with transaction() as db:
        mine = agents.create(db, name="m", role="m", goal="m", agent_type="critic").id
        agents.update(db, mine, status="inactive")
    task_id = post_one(assigned_to=mine)
    let_in()
    assert status(task_id) == "pending"
    with transaction() as db:
        agents.update(db, mine, status="active")
    let_in()
    assert (status(task_id), row(task_id).assigned_to) == ("queued", mine)


@pytest.mark.parametrize("backlog", ["a type that no agent takes", "a type whose agent is full", "a full agent"])
def test_a_backlog_that_cannot_move_does_not_hold_up_what_can(clawq: pytest.MonkeyPatch, backlog: str) -> None:
    clawq.setattr(admit_, "BATCH", 5)
    employ(task_types=["echo"])
    if backlog == "a type whose agent is full":
        employ(agent_id="coder", task_types=["python"], max_running=0)
    if backlog == "a full agent":
        employ(agent_id="full", max_running=0)
        post(*[a_task(priority="high", assigned_to="full")] * 12)
    else:
        post(*[a_task(priority="high", **CODE)] * 12)
    echo = post_one(priority="low")
    let_in()
    assert status(echo) == "queued"
    assert scalar("SELECT count(*) FROM tasks WHERE status = 'pending'") == 12


def test_a_full_batch_says_that_more_may_wait(clawq: pytest.MonkeyPatch) -> None:
    clawq.setattr(admit_, "BATCH", 5)
    employ()
    post(*[a_task()] * 12)
    assert [let_in(), let_in(), let_in()] == [True, True, False]
    assert scalar("SELECT count(*) FROM tasks WHERE status = 'queued'") == 12


def test_a_delayed_task_is_admitted_when_it_is_due() -> None:
    employ()
    task_id = post_one(delay_s=3600)
    let_in()
    assert status(task_id) == "pending"
    sql("UPDATE tasks SET available_at = now()")
    let_in()
    assert status(task_id) == "queued"


def test_an_admission_that_is_rolled_back_sends_nothing() -> None:
    employ()
    task_id = post_one()

    def change_of_mind() -> None:
        with transaction() as db:
            admit_.admit(db)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        change_of_mind()
    assert status(task_id) == "pending"
    assert envelopes("execution") == []


def test_an_id_that_holds_odd_characters_is_admitted() -> None:
    odd = """o'wner "%s" :x {}é"""
    employ(agent_id=odd)
    with transaction() as db:
        (task_id,) = submit(db, odd, [a_task(description=odd, labels={odd: odd}, payload={odd: odd})])
    let_in()
    assert (status(task_id), row(task_id).assigned_to) == ("queued", odd)
    assert odd != OWNER


def test_admission_and_cancels_at_once_leave_each_task_in_one_state() -> None:
    employ()
    for _ in range(10):
        ids = post(*[a_task()] * 5)

        def stop(task_id: str) -> None:
            with transaction() as db:
                cancel(db, task_id)

        together(let_in, *(partial(stop, i) for i in ids))
        assert {status(i) for i in ids} == {"cancelled"}
        assert all(kinds(i)[-1] == "cancelled" for i in ids)


def test_states_that_are_not_pending_are_left_alone() -> None:
    ids = [put(state) for state in ("succeeded", "failed", "cancelled", "skipped")] + [running().id]
    before = [row(i) for i in ids]
    let_in()
    assert [row(i) for i in ids] == before
