"""What people do by hand: start programs beside the stack, steer workers with the celery command, post work."""

from __future__ import annotations

import signal
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from tests.acceptance.conftest import Stack
from tests.support import eventually

_SLEEP = "import sys, time\ntime.sleep(float(sys.argv[1]))"
#: What happens to a task that nothing disturbs.
UNDISTURBED = Counter(["accepted", "queued", "running", "succeeded"])


@contextmanager
def running(stack: Stack, *argv: str) -> Iterator[subprocess.Popen[str]]:
    """One of the environment's programs; SIGTERM ends it."""
    process = stack.start(*argv)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.communicate(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()
            raise


@contextmanager
def a_worker(stack: Stack, name: str, *options: str, role: str = "execution", **env: str) -> Iterator[subprocess.Popen]:
    """A worker `NAME@here` that consumes its queue by now."""
    own = replace(stack, env={**stack.env, "CLAWQ_HEALTH_PORT": "0", **env})
    full = f"{name}@here"
    quiet = ("--without-gossip", "--without-mingle")
    with running(own, "celery", "-q", "-A", "app", "worker", "-Q", role, "-n", full, *quiet, *options) as process:
        eventually(lambda: process.poll() or stack.workers().get(full, {}).get("consuming"), timeout=30)
        assert process.poll() is None, process.communicate()[0]
        yield process


@contextmanager
def idle(stack: Stack) -> Iterator[str]:
    """The stack's own execution worker consumes nothing meanwhile. Yields its name."""
    name = next(n for n in stack.workers() if n.startswith("execution@") and not n.endswith("@here"))
    control(stack, name, "cancel_consumer", "execution")
    try:
        eventually(lambda: not stack.workers()[name]["consuming"])
        yield name
    finally:
        consume(stack, name)


def consume(stack: Stack, name: str) -> None:
    """Let an idle worker take tasks again."""
    control(stack, name, "add_consumer", "execution")
    eventually(lambda: stack.workers()[name]["consuming"])


def control(stack: Stack, worker: str, *command: str) -> str:
    """What the worker answers to `celery control`."""
    return stack.run("celery", "-A", "app", "control", "-d", worker, *command).stdout


def sleepers(stack: Stack, seconds: float, n: int = 1) -> list[str]:
    """Post `n` programs that take their time."""
    return [stack.submit("python", {"code": _SLEEP, "args": [str(seconds)]}) for _ in range(n)]


def all_run(stack: Stack, ids: Sequence[str]) -> bool:
    """Whether all of these run at this moment."""
    return all(stack.get(f"/tasks/{task_id}")["status"] == "running" for task_id in ids)


def assert_undisturbed(stack: Stack, ids: Sequence[str]) -> None:
    """Each of these succeeds on its first attempt, and nothing happens to it twice."""
    for task_id in ids:
        task = stack.wait(task_id)
        assert (task["status"], task["attempt"]) == ("succeeded", 1), task
        assert Counter(stack.events(task_id)) == UNDISTURBED


@contextmanager
def echoes(stack: Stack, **fields: str) -> Iterator[None]:
    """Echo tasks flow all the while, a few a second; afterwards, each has succeeded on its first attempt."""
    ids: list[str] = []
    over = threading.Event()

    def flow() -> None:
        while not over.wait(0.3):
            ids.append(stack.submit("echo", {"n": len(ids)}, **fields))

    thread = threading.Thread(target=flow)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(60)
    assert ids
    assert_undisturbed(stack, ids)
