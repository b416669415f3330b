"""A worker that is cut off from one engine and not from the other."""

from __future__ import annotations

import pytest

from tests.chaos.rig import Rig
from tests.chaos.tasks import Tasks

pytestmark = pytest.mark.usefixtures("sandbox")


def test_a_worker_cut_off_from_redis_ends_what_it_runs(rig: Rig, tasks: Tasks) -> None:
    task = tasks.program(3)
    rig.link(tasks.holder(task), "redis").pause()
    tasks.await_status("succeeded", task)
    tasks.echo(20)
    assert tasks.settle() == {"succeeded": 21}
    assert tasks.attempts(task) == {1}


def test_a_worker_cut_off_from_postgres_gives_up_what_another_takes_over(rig: Rig, tasks: Tasks) -> None:
    task = tasks.program(60)
    first = tasks.holder(task)
    rig.link(first, "postgres").pause()
    assert tasks.holder(task, attempt=2) != first
    assert tasks.container(task, 1) not in tasks.inside.containers(running=True), "both run"
    rig.link(first, "postgres").mend()
    assert tasks.cancel(task).status == 202
    assert tasks.settle() == {"cancelled": 1}
    assert tasks.attempts(task) == {2}
