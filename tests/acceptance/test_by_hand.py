"""The programs that people start by hand against the running services."""

from __future__ import annotations

import httpx

from app.local import ports
from tests.acceptance.conftest import Stack
from tests.acceptance.hands import running
from tests.support import HTTP, eventually


def test_celery_shows_the_queues_of_each_worker(stack: Stack) -> None:
    shown = stack.run("celery", "-A", "app", "inspect", "active_queues")
    assert shown.returncode == 0, shown.stderr
    for queue in ("gateway", "coordinator", "execution", "memory"):
        assert f"'name': '{queue}'" in shown.stdout


def test_a_worker_started_by_hand_joins_and_leaves(stack: Stack) -> None:
    with running(stack, "celery", "-A", "app", "worker", "-Q", "execution", "-n", "hand@here", "-c", "1"):
        eventually(lambda: "hand@here" in stack.workers())
    eventually(lambda: "hand@here" not in stack.workers())


def test_a_worker_without_a_queue_says_what_is_missing(stack: Stack) -> None:
    refused = stack.run("celery", "-A", "app", "worker", "-n", "none@here")
    assert refused.returncode == 1
    assert "-Q execution" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_a_second_clock_is_harmless(stack: Stack) -> None:
    with running(stack, "celery", "-A", "app", "beat") as clock:
        task = stack.wait(stack.submit("echo", {"n": 1}, delay_s=1.5))
        assert clock.poll() is None
    assert task["status"] == "succeeded"
    assert stack.events(task["id"]) == ["accepted", "queued", "running", "succeeded"]


def test_flask_runs_the_api(stack: Stack) -> None:
    port = ports.pick()
    with running(stack, "flask", "--app", "api", "run", "--port", str(port)):
        page = eventually(lambda: _page(f"http://127.0.0.1:{port}/ready"), timeout=30)
    assert "postgres" in page


def _page(url: str) -> str | None:
    try:
        response = HTTP.get(url, timeout=5, follow_redirects=True)
    except httpx.HTTPError:
        return None
    return response.text if response.is_success else None
