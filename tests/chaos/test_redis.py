"""Redis that forgets, stops, dies, fills up, breaks connections, and repeats and shuffles what it was given."""

from __future__ import annotations

import random

import pytest

from app.queues import Queue
from tests.chaos.rig import WORKERS, Rig
from tests.chaos.tasks import Tasks


def test_a_redis_that_forgets_everything_loses_no_waiting_task(rig: Rig, tasks: Tasks) -> None:
    with rig.unheard():
        ids = tasks.echo(200)
        tasks.await_envelopes(*ids)
        with rig.redis() as redis:
            redis.flushall()
        # The epoch tells: the first backoff alone would be half a minute.
        tasks.await_dispatches(2, *ids, timeout=20)
    assert tasks.settle() == {"succeeded": 200}
    assert tasks.attempts(*ids) == {1}


@pytest.mark.parametrize("stopped_s", [5, pytest.param(20, marks=pytest.mark.soak)])
def test_a_stopped_redis_keeps_no_client_waiting(rig: Rig, tasks: Tasks, stopped_s: int) -> None:
    with rig.paused("redis"), tasks.load(per_s=10):
        tasks.await_accepted(10 * stopped_s)
    assert {answer.status for answer in tasks.answers} == {202}
    assert max(answer.seconds for answer in tasks.answers) < 1
    assert tasks.settle() == {"succeeded": len(tasks.accepted)}


def test_a_redis_killed_under_load_takes_nothing_that_was_accepted_and_no_worker_along(rig: Rig, tasks: Tasks) -> None:
    pids = rig.pids(*WORKERS)
    with tasks.load():
        tasks.await_accepted(20)
        rig.kill("redis", restart=False)
        tasks.await_accepted(40)
        rig.start_engine("redis")
        tasks.await_accepted(60)
    assert {answer.status for answer in tasks.answers} == {202}
    assert tasks.settle() == {"succeeded": len(tasks.accepted)}
    assert rig.pids(*WORKERS) == pids


@pytest.mark.usefixtures("sandbox")
def test_envelopes_delivered_three_times_in_any_order_run_nothing_twice(rig: Rig, tasks: Tasks) -> None:
    with rig.unheard():
        ids = [*tasks.programs(5, seconds=0.5), *(tasks.post() for _ in range(30))]
        tasks.await_envelopes(*ids)
        with rig.redis() as redis:
            envelopes = redis.lrange(Queue.EXECUTION, 0, -1) * 3
            random.shuffle(envelopes)
            redis.delete(Queue.EXECUTION)
            redis.rpush(Queue.EXECUTION, *envelopes)
    assert tasks.settle() == {"succeeded": 35}
    assert tasks.attempts(*ids) == {1}
    assert tasks.words() == 5


def test_workers_whose_connections_break_again_and_again_lose_nothing(rig: Rig, tasks: Tasks) -> None:
    pids = rig.pids(*WORKERS)
    with tasks.load(), rig.redis() as redis:
        for round_ in range(1, 5):
            for kind in ("normal", "pubsub"):
                redis.client_kill_filter(_type=kind, skipme=True)
            tasks.await_accepted(20 * round_)
    assert tasks.settle() == {"succeeded": len(tasks.accepted)}
    assert rig.pids(*WORKERS) == pids


def test_a_full_redis_keeps_no_client_waiting_and_recovers(rig: Rig, tasks: Tasks) -> None:
    with rig.redis() as redis:
        redis.config_set("maxmemory", 1)
        with tasks.load():
            tasks.await_accepted(40)
        assert tasks.statuses()["succeeded"] < 40, "Redis took envelopes all the same"
        redis.config_set("maxmemory", 0)
    assert {answer.status for answer in tasks.answers} == {202}
    assert max(answer.seconds for answer in tasks.answers) < 1
    assert tasks.settle() == {"succeeded": len(tasks.accepted)}
