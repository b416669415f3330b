"""What people do by hand: start programs beside the stack, steer workers with the celery command, post work."""

from __future__ import annotations

import json
import signal
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial

import redis

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
    with workers(stack, {name: options}, role, **env) as started:
        yield started[name]


@contextmanager
def workers(
    stack: Stack, named: Mapping[str, Sequence[str]], role: str = "execution", **env: str
) -> Iterator[dict[str, subprocess.Popen[str]]]:
    """Several at once, by name, each with its options."""
    own = replace(stack, env={**stack.env, "CLAWQ_HEALTH_PORT": "0", **env})
    command = ("celery", "-q", "-A", "app", "worker", "-Q", role, "--without-gossip", "--without-mingle")
    with ExitStack() as contexts:
        started = {
            name: contexts.enter_context(running(own, *command, "-n", f"{name}@here", *options))
            for name, options in named.items()
        }
        for name, process in started.items():
            consumes = partial(_consumes, stack, f"{name}@here")
            eventually(lambda process=process, consumes=consumes: process.poll() or consumes(), timeout=30)
            assert process.poll() is None, process.communicate()[0]
        yield started


def _consumes(stack: Stack, name: str) -> bool:
    return bool(stack.workers().get(name, {}).get("consuming"))


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
    assert "add consumer execution" in stack.run("celery", "-A", "app", "control", "add_consumer", "execution").stdout
    eventually(lambda: stack.workers()[name]["consuming"])


def control(stack: Stack, worker: str, *command: str) -> str:
    """What the worker answers to `celery control`."""
    return stack.run("celery", "-A", "app", "control", "-d", worker, *command).stdout


def client(stack: Stack) -> redis.Redis:
    """A client of the stack's Redis; a context manager."""
    server = json.loads((stack.home / "redis.json").read_text())
    return redis.Redis(port=server["port"], password=server["password"])


def lose_connections(stack: Stack) -> None:
    """Every client of Redis has to connect again; a worker does not know then how much it had prefetched."""
    with client(stack) as admin:
        for kind in ("normal", "pubsub"):
            admin.execute_command("CLIENT", "KILL", "TYPE", kind)


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
