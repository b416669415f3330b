"""The thread pool: it grows and shrinks while it works, and a job's error does not cost a slot."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from queue import SimpleQueue
from typing import Any

import pytest

from app import pool as pool_
from app.pool import ThreadPool
from app.settings import settings
from tests.support import eventually


class Gate:
    """A job that says that it runs and then waits to be let go."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.open = threading.Event()

    def __call__(self) -> None:
        self.entered.set()
        assert self.open.wait(20)


@pytest.fixture
def pool() -> Iterator[ThreadPool]:
    """Two slots."""
    pool = ThreadPool(2)
    pool.on_start()
    yield pool
    pool.on_stop()


def threads(pool: ThreadPool) -> int:
    return pool._get_info()["threads"]


def test_a_job_runs_and_its_callbacks_hear_of_it(pool: ThreadPool) -> None:
    heard: SimpleQueue[Any] = SimpleQueue()
    pool.on_apply(
        lambda a, b: a + b, (1,), {"b": 2}, callback=heard.put, accept_callback=lambda pid, at: heard.put("accepted")
    )
    assert heard.get(timeout=20) == "accepted"
    assert heard.get(timeout=20) == 3


def test_as_many_jobs_run_at_once_as_there_are_slots(pool: ThreadPool) -> None:
    gates = [Gate() for _ in range(3)]
    for gate in gates:
        pool.on_apply(gate)
    assert all(gate.entered.wait(20) for gate in gates[:2])
    assert not gates[2].entered.is_set()
    gates[0].open.set()
    assert gates[2].entered.wait(20)
    for gate in gates:
        gate.open.set()


def test_a_pool_that_grows_takes_up_what_waits(pool: ThreadPool) -> None:
    gates = [Gate() for _ in range(4)]
    for gate in gates:
        pool.on_apply(gate)
    pool.grow(2)
    assert all(gate.entered.wait(20) for gate in gates)
    assert pool._get_info()["max-concurrency"] == 4
    for gate in gates:
        gate.open.set()


def test_a_busy_thread_leaves_after_its_job(pool: ThreadPool) -> None:
    gates = [Gate(), Gate()]
    for gate in gates:
        pool.on_apply(gate)
        assert gate.entered.wait(20)
    pool.shrink(1)
    assert pool._get_info()["max-concurrency"] == 1
    assert threads(pool) == 2, "nobody is torn from its job"
    gates[0].open.set()
    eventually(lambda: threads(pool) == 1)
    gates[1].open.set()
    done = threading.Event()
    pool.on_apply(done.set)
    assert done.wait(20), "the one that stayed still works"
    assert threads(pool) == 1


def test_at_least_one_slot_stays(pool: ThreadPool) -> None:
    with pytest.raises(ValueError, match="at least one"):
        pool.shrink(2)
    assert pool.limit == 2
    pool.shrink(1)
    eventually(lambda: threads(pool) == 1)


def test_what_was_grown_can_be_shrunk_again(pool: ThreadPool) -> None:
    pool.grow(5)
    pool.shrink(6)
    eventually(lambda: threads(pool) == 1)
    assert pool.limit == 1


def test_a_thread_that_does_not_start_is_not_waited_for(pool: ThreadPool, monkeypatch: pytest.MonkeyPatch) -> None:
    def start(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        with pytest.raises(RuntimeError):
            pool.grow(1)
    assert threads(pool) == 2
    pool.on_stop()


def fail(error: BaseException) -> None:
    raise error


@pytest.mark.parametrize("error", [RuntimeError("broken"), SystemExit(1)])
def test_a_job_that_raises_keeps_its_slot(pool: ThreadPool, error: BaseException) -> None:
    for _ in range(4):
        pool.on_apply(fail, (error,))
    done = threading.Event()
    pool.on_apply(done.set)
    assert done.wait(20)
    assert threads(pool) == 2


def test_a_callback_that_raises_keeps_the_slot(pool: ThreadPool) -> None:
    def broken_ack(_: Any) -> None:
        raise ConnectionError("ack on a broken connection")

    for _ in range(3):
        pool.on_apply(int, callback=broken_ack)
    done = threading.Event()
    pool.on_apply(done.set)
    assert done.wait(20)


def test_stopping_waits_for_what_runs_and_drops_what_does_not() -> None:
    pool = ThreadPool(1)
    pool.on_start()
    gate, never = Gate(), threading.Event()
    pool.on_apply(gate)
    assert gate.entered.wait(20)
    pool.on_apply(never.set)
    stopping = threading.Thread(target=pool.on_stop)
    stopping.start()
    eventually(lambda: _is_waiting(pool, stopping))
    gate.open.set()
    stopping.join(20)
    assert not stopping.is_alive()
    assert not never.is_set()
    assert threads(pool) == 0


def test_stopping_leaves_a_job_that_does_not_end_alone(environment: pytest.MonkeyPatch) -> None:
    environment.setattr(pool_, "_GRACE_S", 0.1)
    environment.setenv("CLAWQ_DRAIN_S", "0")
    settings.cache_clear()
    pool = ThreadPool(1)
    pool.on_start()
    gate = Gate()
    pool.on_apply(gate)
    assert gate.entered.wait(20)
    stopping = threading.Thread(target=pool.on_stop)
    stopping.start()
    stopping.join(10)
    assert not stopping.is_alive()
    assert threads(pool) == 1
    gate.open.set()
    eventually(lambda: threads(pool) == 0)


def _is_waiting(pool: ThreadPool, stopping: threading.Thread) -> Callable[[], bool] | bool:
    """Whether the drop is over: all that is queued is one leave for the one thread."""
    return stopping.is_alive() and pool._jobs.qsize() == 1
