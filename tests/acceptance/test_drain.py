"""Workers that are asked to leave: in time, with what they could not finish handed back, and nothing lost."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from subprocess import Popen

import psutil

from app.local.plan import DRAIN_MARGIN_S
from tests.acceptance.conftest import Stack
from tests.acceptance.hands import (
    a_worker,
    all_run,
    assert_undisturbed,
    client,
    consume,
    control,
    echoes,
    idle,
    sleepers,
    workers,
)  # fmt: skip
from tests.support import eventually


def assert_leaves(worker: Popen[str], drain_s: float, code: int = 0) -> None:
    """It ends in order, within the time that `clawq up` and `clawq down` allow."""
    worker.communicate(timeout=drain_s + DRAIN_MARGIN_S)
    assert worker.returncode == code


def assert_handed_back(stack: Stack, task_id: str) -> None:
    """Another worker has it at once; the first attempt counts as no failure."""
    task = eventually(lambda: t if (t := stack.get(f"/tasks/{task_id}"))["attempt"] == 2 else None)
    assert task["failures"] == 0
    found = stack.get(f"/tasks/{task_id}/events")["items"]
    assert [e["data"]["reason"] for e in found if e["kind"] == "retrying"] == ["handed_back"]
    assert "lease_expired" not in [e["kind"] for e in found]


def test_a_drain_lets_short_tasks_end_and_hands_long_ones_back(stack: Stack) -> None:
    with idle(stack) as other, a_worker(stack, "hand", "-c", "2", CLAWQ_DRAIN_S="4") as worker:
        long, short = sleepers(stack, 8) + sleepers(stack, 3)
        for task_id in (long, short):
            stack.wait(task_id, "running")
        (waiting,) = sleepers(stack, 0)
        stack.wait(waiting, "queued")
        # What a worker has no slot for stays in the queue, where others find it.
        with client(stack) as queues:
            eventually(lambda: queues.llen("execution") == 1)
        worker.send_signal(signal.SIGTERM)
        consume(stack, other)
        assert_leaves(worker, 4)
        eventually(lambda: "hand@here" not in stack.workers())
        assert_undisturbed(stack, [short, waiting])
        assert_handed_back(stack, long)
        assert stack.wait(long)["status"] == "succeeded"


def test_every_way_to_end_a_worker_hands_back_what_it_runs(stack: Stack) -> None:
    one_slot = ("-c", "1")
    patient = workers(stack, {"interrupt": one_slot, "quit": one_slot}, CLAWQ_DRAIN_S="600")
    prompt = workers(stack, {"twice": one_slot, "shutdown": one_slot}, CLAWQ_DRAIN_S="1")
    with idle(stack) as other, patient as slow, prompt as fast:
        leaving = {**slow, **fast}
        ids = sleepers(stack, 60, len(leaving))
        eventually(lambda: all_run(stack, ids))
        consume(stack, other)
        leaving["quit"].send_signal(signal.SIGQUIT)
        for way, sign in (("twice", signal.SIGTERM), ("interrupt", signal.SIGINT)):
            leaving[way].send_signal(sign)
            eventually(lambda way=way: not stack.workers().get(f"{way}@here", {}).get("consuming"))
            leaving[way].send_signal(sign)
        control(stack, "shutdown@here", "shutdown")
        for way, worker in leaving.items():
            # Celery's own code for Ctrl-C.
            assert_leaves(worker, 1, code=1 if way == "interrupt" else 0)
        for task_id in ids:
            assert_handed_back(stack, task_id)
            stack.post(f"/tasks/{task_id}/cancel", {})


def test_gateway_and_coordinator_drain_too(stack: Stack) -> None:
    gate, co = a_worker(stack, "gate", role="gateway"), a_worker(stack, "co", role="coordinator")
    with gate as gateway, co as coordinator, echoes(stack), echoes(stack, assigned_to="coordinator_agent"):
        for worker in (gateway, coordinator):
            worker.send_signal(signal.SIGTERM)
        for worker in (gateway, coordinator):
            assert_leaves(worker, 1)


def test_a_drain_ends_while_postgres_is_stopped(stack: Stack) -> None:
    with idle(stack), a_worker(stack, "hand", CLAWQ_LEASE_S="10", CLAWQ_DRAIN_S="1") as worker:
        (task_id,) = sleepers(stack, 60)
        stack.wait(task_id, "running")
        with stopped_postgres(stack):
            worker.send_signal(signal.SIGTERM)
            worker.communicate(timeout=1 + DRAIN_MARGIN_S)
        eventually(lambda: "lease_expired" in stack.events(task_id))
    stack.post(f"/tasks/{task_id}/cancel", {})
    assert stack.wait(task_id)["status"] == "cancelled"


@contextmanager
def stopped_postgres(stack: Stack) -> Iterator[None]:
    pid = stack.pid("postgres")
    assert pid
    postmaster = psutil.Process(pid)
    family = [postmaster, *postmaster.children()]
    for process in family:
        process.suspend()
    try:
        yield
    finally:
        for process in family:
            process.resume()
