"""A worker that is cut off from one engine and not from the other."""

from __future__ import annotations

import pytest

from tests.chaos.rig import Rig
from tests.chaos.tasks import Tasks
from tests.chaos.test_workers import ONE_LOST
from tests.support import eventually

pytestmark = pytest.mark.usefixtures("sandbox")


def test_a_worker_cut_off_from_redis_ends_what_it_runs(rig: Rig, tasks: Tasks) -> None:
    task = tasks.program(3)
    rig.link(tasks.holder(task), "redis").pause()
    tasks.await_status("succeeded", task)
    tasks.echo(20)
    assert tasks.settle() == {"succeeded": 21}
    assert tasks.attempts(task) == {1}


def test_a_worker_cut_off_from_postgres_gives_up_what_another_takes_over(rig: Rig, tasks: Tasks) -> None:
    task = tasks.program(4)
    first = tasks.holder(task)
    rig.link(first, "postgres").pause()
    assert tasks.holder(task, attempt=2) != first
    eventually(lambda: not any(name.endswith("-1") for name in tasks.inside.containers()))
    rig.link(first, "postgres").mend()
    assert tasks.settle() == {"succeeded": 1}
    assert tasks.kinds(task) == ONE_LOST
