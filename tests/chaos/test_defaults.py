"""The stack as users start it, with the leases, drains and pauses that they get: `clawq up`."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from datetime import timedelta

import psutil
import pytest

from tests.acceptance.conftest import Stack, up
from tests.chaos.tasks import Tasks
from tests.chaos.test_workers import ONE_LOST
from tests.support import eventually

pytestmark = [pytest.mark.soak, pytest.mark.timeout(600), pytest.mark.usefixtures("sandbox")]


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with up(tmp_path_factory.mktemp("defaults") / "home") as stack:
        yield stack


@pytest.fixture
def tasks(stack: Stack) -> Iterator[Tasks]:
    made = Tasks(stack.api_url, stack.api_key, stack.home, patient=True)
    made.empty()
    eventually(lambda: stack.run("clawq", "status").returncode == 0, timeout=120)
    yield made
    made.close()


def test_a_worker_killed_in_a_long_program_costs_a_minute(stack: Stack, tasks: Tasks) -> None:
    pid = stack.pid("execution")
    task = tasks.program(20)
    tasks.holder(task)
    (killed,) = tasks.inside.sql("SELECT now() AS at")
    os.kill(pid, signal.SIGKILL)
    assert tasks.settle(timeout=90) == {"succeeded": 1}
    assert tasks.row(task).completed_at - killed.at < timedelta(seconds=60)
    assert tasks.kinds(task) == ONE_LOST
    eventually(lambda: not tasks.inside.orphans(), timeout=60)


def test_a_worker_that_is_asked_to_leave_ends_what_it_can(stack: Stack, tasks: Tasks) -> None:
    pid = stack.pid("execution")
    task = tasks.program(10)
    tasks.holder(task)
    os.kill(pid, signal.SIGTERM)
    assert tasks.settle() == {"succeeded": 1}
    assert tasks.attempts(task) == {1}


def test_the_late_result_of_a_stopped_worker_is_refused(stack: Stack, tasks: Tasks) -> None:
    pid = stack.pid("execution")
    task = tasks.program(25)
    tasks.holder(task)
    os.kill(pid, signal.SIGSTOP)
    try:
        eventually(lambda: "lease_expired" in tasks.kinds(task), timeout=60)
    finally:
        os.kill(pid, signal.SIGCONT)
    assert tasks.settle(timeout=120) == {"succeeded": 1}
    assert tasks.kinds(task) == ONE_LOST


def test_a_redis_that_forgets_everything_loses_no_waiting_task(stack: Stack, tasks: Tasks) -> None:
    control = ("celery", "-A", "app", "control")
    assert stack.run(*control, "cancel_consumer", "execution").returncode == 0
    ids = tasks.echo(200)
    tasks.await_envelopes(*ids)
    with tasks.inside.redis() as redis:
        redis.flushall()
    assert stack.run(*control, "add_consumer", "execution").returncode == 0
    assert tasks.settle(timeout=90) == {"succeeded": 200}
    assert tasks.attempts(*ids) == {1}


@pytest.mark.parametrize("engine", ["redis", "postgres"])
def test_an_engine_killed_under_load_is_started_again_and_loses_nothing(
    stack: Stack, tasks: Tasks, engine: str
) -> None:
    with tasks.load():
        tasks.await_accepted(40)
        process = psutil.Process(stack.pid(engine))
        family = [process, *process.children(recursive=True)]
        for member in family:
            member.kill()
        tasks.await_accepted(200)
    assert tasks.settle(timeout=120) == {"succeeded": len(tasks.accepted)}
