"""Clocks: none for a while, two at once, and one that dies with an envelope in its hand."""

from __future__ import annotations

from app.queues import Queue
from tests.chaos.rig import Rig
from tests.chaos.tasks import Tasks
from tests.support import eventually


def lose_envelopes(rig: Rig, tasks: Tasks, count: int) -> list[str]:
    """Tasks whose envelopes are gone. To be called while workers hear nothing."""
    ids = [tasks.post() for _ in range(count)]
    tasks.await_envelopes(*ids)
    with rig.redis() as redis:
        redis.delete(Queue.EXECUTION)
    return ids


def test_a_clock_killed_between_its_commit_and_its_envelopes_loses_nothing(rig: Rig, tasks: Tasks) -> None:
    with rig.unheard():
        lose_envelopes(rig, tasks, 10)
        rig.link("clock", "redis").trap(b"LPUSH", deliver=False)
        tasks.pass_time(30)
        rig.link("clock", "redis").await_sprung()
        rig.kill("clock")
    assert {row.dispatches for row in tasks.rows()} == {2}
    assert tasks.settle() == {"succeeded": 10}


def test_a_gateway_killed_with_the_bell_in_its_hand_is_rung_for_again(rig: Rig, tasks: Tasks) -> None:
    link = rig.link("gateway", "postgres")
    link.trap(b"clawq.admit", deliver=False)
    tasks.echo(20)
    link.await_sprung()
    rig.kill("gateway")
    link.cut()
    assert tasks.statuses() == {"pending": 20}
    assert tasks.settle() == {"succeeded": 20}


def test_a_gateway_killed_between_its_commit_and_its_envelopes_loses_nothing(rig: Rig, tasks: Tasks) -> None:
    rig.link("gateway", "redis").trap(b'"task": "tasks.run"', deliver=False)
    tasks.echo(10)
    rig.link("gateway", "redis").await_sprung()
    rig.kill("gateway")
    assert tasks.statuses() == {"queued": 10}
    assert tasks.settle() == {"succeeded": 10}


def test_two_clocks_do_everything_once(rig: Rig, tasks: Tasks) -> None:
    rig.second_clock()
    with rig.unheard():
        lose_envelopes(rig, tasks, 50)
        tasks.pass_time(30)
        eventually(lambda: all(row.dispatches > 1 for row in tasks.rows()))
        tasks.let_pass(2)
        assert {row.dispatches for row in tasks.rows()} == {2}
    assert tasks.settle() == {"succeeded": 50}


def test_a_clock_that_stood_still_for_long_raises_no_storm(rig: Rig, tasks: Tasks) -> None:
    with rig.unheard():
        # Before the clock stops: it may stop in the middle of a transaction, which holds up admission.
        lose_envelopes(rig, tasks, 50)
        with rig.paused("clock"):
            tasks.pass_time(3600)
        eventually(lambda: all(row.dispatches > 1 for row in tasks.rows()))
        tasks.let_pass(2)
        assert {row.dispatches for row in tasks.rows()} == {2}
    assert tasks.settle() == {"succeeded": 50}
