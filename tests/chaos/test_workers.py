"""Execution workers that are killed, stopped and asked to leave."""

from __future__ import annotations

import pytest

from tests.chaos.rig import EXECUTION, Rig
from tests.chaos.tasks import Tasks
from tests.support import eventually

pytestmark = pytest.mark.usefixtures("sandbox")

ONE_LOST = ["accepted", "queued", "running", "lease_expired", "queued", "running", "succeeded"]


def test_a_worker_killed_in_the_middle_of_a_program_costs_one_attempt(rig: Rig, tasks: Tasks) -> None:
    task = tasks.program(2)
    rig.kill(tasks.holder(task), restart=False)
    tasks.holder(task, attempt=2)
    rig.heal()
    # The worker that starts sweeps away what the last one left.
    eventually(lambda: tasks.container(task, 1) not in tasks.inside.containers())
    assert tasks.settle() == {"succeeded": 1}
    assert tasks.kinds(task) == ONE_LOST


def test_a_worker_that_is_asked_to_leave_ends_what_it_can(rig: Rig, tasks: Tasks) -> None:
    task = tasks.program(2)
    rig.ask_to_leave(tasks.holder(task))
    assert tasks.settle() == {"succeeded": 1}
    assert tasks.kinds(task) == ["accepted", "queued", "running", "succeeded"]


def test_the_late_result_of_a_stopped_worker_is_refused(rig: Rig, tasks: Tasks) -> None:
    task = tasks.program(5)
    with rig.paused(tasks.holder(task, attempt=1)):
        tasks.holder(task, attempt=2)
        # The program goes on while its worker stands still, so that there is a result to bring.
        tasks.await_age(task, 5.5)
    assert tasks.settle() == {"succeeded": 1}
    assert tasks.kinds(task) == ONE_LOST


def test_envelopes_die_with_a_worker_that_took_but_did_not_open_them(rig: Rig, tasks: Tasks) -> None:
    with rig.unheard():
        ids = tasks.echo(20)
        tasks.await_envelopes(*ids)
        for worker in EXECUTION:
            rig.link(worker, "redis").trap(b"BRPOP", deliver=True)
    with rig.redis() as redis:
        eventually(lambda: redis.llen("execution") == 0)
    rig.kill(*EXECUTION)
    assert tasks.settle() == {"succeeded": 20}
    assert tasks.attempts(*ids) == {1}


def test_a_task_that_takes_its_workers_along_fails_and_its_neighbours_do_not(rig: Rig, tasks: Tasks) -> None:
    poison = tasks.program(60)
    with tasks.load(per_s=5):
        for attempt in (1, 2, 3):
            rig.kill(tasks.holder(poison, attempt))
        tasks.await_status("failed", poison)
    ended = tasks.settle()
    assert ended == {"failed": 1, "succeeded": ended["succeeded"]}
    assert tasks.attempts(poison) == {3}


def test_a_program_that_kills_all_it_can_see_fails_within_its_bound(rig: Rig, tasks: Tasks) -> None:
    code = "import os, signal\nos.kill(-1, signal.SIGKILL)\nos.kill(os.getppid(), signal.SIGKILL)\nos.kill(0, 9)"
    poison = tasks.post(task_type="python", payload={"code": code}, max_attempts=2)
    tasks.await_status("failed", poison)
    tasks.echo(20)
    assert tasks.settle() == {"failed": 1, "succeeded": 20}
    assert tasks.row(poison).failures == tasks.row(poison).attempt == 2
