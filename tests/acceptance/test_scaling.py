"""Workers are scaled by the celery command while they work: nothing is lost, doubled or disturbed."""

from __future__ import annotations

import httpx

from tests.acceptance.conftest import Stack
from tests.acceptance.hands import (
    a_worker,
    all_run,
    assert_undisturbed,
    consume,
    control,
    echoes,
    idle,
    lose_connections,
    sleepers,
)
from tests.support import eventually


def slots(stack: Stack, name: str) -> int:
    """As registered."""
    return int(stack.workers()[name]["slots"])


def test_a_plain_worker_grows_and_shrinks_by_command_while_it_works(stack: Stack) -> None:
    with idle(stack), a_worker(stack, "plain", "-c", "2"), echoes(stack):
        ids = sleepers(stack, 12, 6)
        assert "pool will grow" in control(stack, "plain@here", "pool_grow", "4")
        eventually(lambda: all_run(stack, ids))
        eventually(lambda: slots(stack, "plain@here") == 6)
        assert "pool will shrink" in control(stack, "plain@here", "pool_shrink", "5")
        eventually(lambda: slots(stack, "plain@here") == 1)
        assert all_run(stack, ids), "nobody is torn from its job"
        assert "at least one must stay" in control(stack, "plain@here", "pool_shrink", "1")
        assert "Autoscale not enabled" in control(stack, "plain@here", "autoscale", "10", "1")
        assert_undisturbed(stack, ids)
        shown = eventually(lambda: s if '"threads": 1\n' in (s := stats(stack, "plain@here")) else None)
        assert '"prefetch_count": 1,' in shown


def test_a_worker_with_autoscale_follows_its_load(stack: Stack) -> None:
    with idle(stack), a_worker(stack, "auto", "--autoscale=8,2", AUTOSCALE_KEEPALIVE="1"):
        assert slots(stack, "auto@here") == 2
        with echoes(stack):
            ids = sleepers(stack, 4, 8)
            eventually(lambda: slots(stack, "auto@here") == 8)
            assert "Adjust autoscale range" in control(stack, "auto@here", "pool_grow", "2")
            assert_undisturbed(stack, ids)
        eventually(lambda: slots(stack, "auto@here") == 2)
        assert "autoscale now max=10 min=1" in control(stack, "auto@here", "autoscale", "10", "1")
        eventually(lambda: slots(stack, "auto@here") == 1)
        lose_connections(stack)
        more = sleepers(stack, 4, 10)
        eventually(lambda: slots(stack, "auto@here") == 10)
        assert_undisturbed(stack, more)


def test_a_worker_stops_and_starts_consuming_by_command(stack: Stack) -> None:
    (long,) = sleepers(stack, 6)
    stack.wait(long, "running")
    with idle(stack) as name:
        ready = f"http://127.0.0.1:{stack.workers()[name]['health_port']}/ready"
        assert httpx.get(ready).status_code == 503
        waits = stack.submit("python", {"code": "1"})
        stack.wait(waits, "queued")
        (reason,) = stack.get(f"/tasks/{waits}/explain")["waiting_for"]
        assert reason["detail"].startswith("The workers of queue execution take no tasks")
        assert stack.get(f"/tasks/{long}")["status"] == "running"
        with a_worker(stack, "other", "-c", "1"):
            assert_undisturbed(stack, [waits])
        waits = stack.submit("python", {"code": "1"})
        consume(stack, name)
        assert httpx.get(ready).status_code == 200
        queues = stack.run("celery", "-A", "app", "inspect", "active_queues").stdout
        assert queues.count("* {'name': 'execution'") == 1, "workers of other roles heeded it"
        assert_undisturbed(stack, [long, waits])


def stats(stack: Stack, name: str) -> str:
    return stack.run("celery", "-A", "app", "inspect", "-d", name, "stats").stdout
