"""Recover: what the clock does, however many clocks there are."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from app import agents, metrics
from app.db import transaction
from app.queues import ADMIT, RUN
from app.tasks import recover
from app.tasks.retry import MAX_INFRA_FAILURES
from tests.support import (
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
    lapse,
    let_in,
    post,
    post_one,
    put,
    row,
    running,
    scalar,
    sql,
    start,
    status,
    take,
    together,
)  # fmt: skip

pytestmark = pytest.mark.usefixtures("clawq")


def do(duty: Callable[[Any], Any]) -> Any:
    with transaction() as db:
        return duty(db)


def dispatch_due() -> None:
    sql("UPDATE tasks SET next_dispatch_at = now() WHERE status = 'queued'")


def test_an_envelope_that_nobody_claimed_is_sent_again_at_longer_and_longer_intervals() -> None:
    task_id = put("queued")
    empty_redis()
    assert do(recover.redispatch) == 0, "not before it is due"
    waits = []
    for _ in range(6):
        dispatch_due()
        assert do(recover.redispatch) == 1
        waits.append(scalar("SELECT extract(epoch FROM next_dispatch_at - last_dispatched_at)::int FROM tasks"))
    assert waits == [60, 120, 240, 300, 300, 300]
    assert envelopes("execution") == [(RUN, [[task_id]])] * 6
    assert kinds(task_id) == ["accepted", "queued"], "sending again is no news of the task"


def test_the_age_of_a_queue_counts_from_admission_and_not_from_the_last_envelope() -> None:
    put("queued")
    sql(
        "UPDATE tasks SET updated_at = now() - interval '1 hour', last_dispatched_at = now() - interval '1 hour', "
        "next_dispatch_at = now()"
    )
    do(recover.redispatch)
    with transaction() as db:
        shown = {row["queue"]: row["oldest_queued_s"] for row in agents.queues(db)}
    assert shown["execution"] > 3000
    assert shown["memory"] is None
    families = {family.name: family for family in metrics.DatabaseCollector().collect()}
    (sample,) = families["queue_oldest_seconds"].samples
    assert sample.value > 3000


def test_an_expired_lease_gives_the_task_back() -> None:
    ours = running()
    assert do(recover.take_back) == 0, "not while it holds"
    lapse(ours.id)
    assert do(recover.take_back) == 1
    task = row(ours.id)
    assert (task.status, task.infra_failures, task.failures, task.attempt) == ("pending", 1, 0, 1)
    assert (task.lease_owner, task.lease_until, task.assigned_to) == (None, None, None)
    assert task.error == "Its worker execution@test stopped its heartbeat."
    assert kinds(ours.id)[-1] == "lease_expired"
    assert events(ours.id)[-1].data == {"worker": "execution@test"}
    ((outcome,),) = sql("SELECT outcome FROM attempts")
    assert outcome == "lease_expired"


def test_a_worker_that_dies_of_its_task_takes_only_a_few_workers_with_it() -> None:
    ours = running(max_attempts=9)
    for count in range(1, MAX_INFRA_FAILURES + 1):
        lapse(ours.id)
        do(recover.take_back)
        assert row(ours.id).infra_failures == count
        if count < MAX_INFRA_FAILURES:
            assert kinds(ours.id)[-1] == "lease_expired"
            start(ours.id)
    assert kinds(ours.id)[-2:] == ["lease_expired", "failed"]
    assert status(ours.id) == "failed"
    assert row(ours.id).completed_at


def test_a_lost_task_past_its_deadline_fails() -> None:
    ours = running()
    lapse(ours.id)
    sql("UPDATE tasks SET deadline = now()")
    do(recover.take_back)
    assert kinds(ours.id)[-2:] == ["lease_expired", "failed"]
    assert row(ours.id).error == "The deadline passed and its worker was lost."


def test_a_lost_task_that_was_to_be_cancelled_is_cancelled() -> None:
    ours = running()
    lapse(ours.id)
    sql("UPDATE tasks SET deadline = now(), cancel_requested_at = now()")
    do(recover.take_back)
    assert kinds(ours.id)[-2:] == ["lease_expired", "cancelled"]


def test_a_pinned_task_that_was_lost_stays_its_agent_s() -> None:
    employ()
    ours = running(assigned_to="execution_agent")
    lapse(ours.id)
    do(recover.take_back)
    assert row(ours.id).assigned_to == "execution_agent"


@pytest.mark.parametrize("state", ["pending", "queued"])
def test_what_nobody_started_before_its_deadline_fails(state: str) -> None:
    task_id, other = put(state), put(state)
    sql("UPDATE tasks SET deadline = now() WHERE id = :id", id=task_id)
    sql("UPDATE tasks SET deadline = now() + interval '1 hour' WHERE id = :id", id=other)
    assert do(recover.expire) == 1
    assert (status(task_id), status(other)) == ("failed", state)
    assert kinds(task_id)[-1] == "failed"
    assert take(task_id) == []
    assert let_in() is False


def test_a_running_task_past_its_deadline_is_its_worker_s_business() -> None:
    ours = running()
    sql("UPDATE tasks SET deadline = now()")
    assert do(recover.expire) == 0
    assert end((ours, SUCCEEDED)) == {ours.id}


def test_a_due_task_rings_the_gateway() -> None:
    waits = post_one(delay_s=3600)
    child = post_one(dependencies=[waits])
    empty_redis()
    assert do(recover.start_due) is False
    assert envelopes("gateway") == []
    sql("UPDATE tasks SET available_at = now() WHERE id = :id", id=waits)
    assert do(recover.start_due) is True
    assert envelopes("gateway") == [(ADMIT, [])]
    assert status(child) == "pending"


def test_two_clocks_at_once_do_each_thing_once() -> None:
    employ()
    lost = [running().id for _ in range(20)]
    for task_id in lost:
        lapse(task_id)
    late = post(*[a_task()] * 20)
    sql("UPDATE tasks SET deadline = now() WHERE id = ANY(:ids)", ids=late)
    clocks = [partial(do, duty) for duty in (recover.take_back, recover.expire)] * 3
    done = together(*clocks)
    assert sum(done) == 40
    assert all(kinds(i)[-1] == "lease_expired" for i in lost)
    assert all(kinds(i) == ["accepted", "failed"] for i in late)


def test_two_clocks_at_once_send_an_envelope_once() -> None:
    employ()
    ids = post(*[a_task(task_type="python", payload={"code": "1"})] * 20)
    let_in()
    empty_redis()
    dispatch_due()
    assert sum(together(*[partial(do, recover.redispatch)] * 4)) == 20
    assert sorted(args[0][0] for _, args in envelopes("execution")) == sorted(ids)


def test_a_heartbeat_in_the_last_moment_keeps_the_lease() -> None:
    ours = running()
    lapse(ours.id)
    with transaction() as db:
        from app.tasks import lease

        assert lease.heartbeat(db, [(ours.id, ours.attempt)])
        assert do(recover.take_back) == 0, "the clock passes over what is locked"
    assert do(recover.take_back) == 0
    assert status(ours.id) == "running"


def test_an_end_in_the_last_moment_stands() -> None:
    for _ in range(15):
        ours = running()
        lapse(ours.id)
        written, taken = together(partial(end, (ours, SUCCEEDED)), partial(do, recover.take_back))
        assert len(written) + taken == 1
        assert status(ours.id) == ("succeeded" if written else "pending")
        kinds(ours.id)


def test_a_duty_takes_no_more_than_a_batch(clawq: pytest.MonkeyPatch) -> None:
    clawq.setattr(recover, "BATCH", 3)
    employ()
    post(*[a_task()] * 5)
    sql("UPDATE tasks SET deadline = now()")
    assert [do(recover.expire) for _ in range(3)] == [3, 2, 0]


def test_a_duty_does_not_wait_for_what_another_holds() -> None:
    held, free = post(a_task(), a_task())
    sql("UPDATE tasks SET deadline = now()")
    with transaction() as db:
        db.connection().exec_driver_sql("SELECT 1 FROM tasks WHERE id = %s FOR UPDATE", (held,))
        assert Aside(recover.expire).join() == 1
    assert (status(held), status(free)) == ("pending", "failed")
    eventually(lambda: do(recover.expire) == 1)
