"""Parents, children and cancels, while workers and envelopes get lost."""

from __future__ import annotations

import pytest

from tests.chaos.rig import Rig
from tests.chaos.tasks import Tasks

pytestmark = pytest.mark.usefixtures("sandbox")


def test_children_wait_for_their_parents_through_lost_workers_and_envelopes(rig: Rig, tasks: Tasks) -> None:
    root = tasks.program(1)
    middle = [*tasks.programs(4, seconds=1, dependencies=[root]), *tasks.echo(20, dependencies=[root])]
    last = tasks.echo(1, dependencies=middle)
    for seen in (root, middle[0]):
        rig.kill(tasks.holder(seen), "gateway")
        with rig.redis() as redis:
            redis.flushall()
    assert tasks.settle(timeout=90) == {"succeeded": 26}
    assert tasks.attempts(*last) == {1}


def test_a_cancel_outlives_the_worker_that_should_have_heeded_it(rig: Rig, tasks: Tasks) -> None:
    root = tasks.program(60)
    children = tasks.echo(2, dependencies=[root])
    tasks.echo(1, dependencies=children)
    with rig.paused(holder := tasks.holder(root)):
        assert tasks.cancel(root).status == 202
        rig.kill(holder)
    assert tasks.settle() == {"cancelled": 1, "skipped": 3}
    assert tasks.attempts(root) == {1}


def test_an_envelope_of_a_cancelled_task_starts_nothing(rig: Rig, tasks: Tasks) -> None:
    with rig.unheard():
        ids = tasks.echo(10)
        tasks.await_envelopes(*ids)
        assert {tasks.cancel(task).status for task in ids[:5]} == {200}
    assert tasks.settle() == {"cancelled": 5, "succeeded": 5}
    assert tasks.attempts(*ids[:5]) == {0}
