"""Tasks through the real command line, API, workers and sandbox, while processes come and go."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

from app.settings import Settings
from tests.acceptance.conftest import Stack
from tests.support import eventually
from workers.sandbox import stack_name
from workers.sandbox.profile import STACK

SLEEPER = {"code": "import sys, time\nprint('started', flush=True)\ntime.sleep(float(sys.argv[1]))\nprint('done')"}


def sleeper(seconds: float) -> dict[str, object]:
    return {**SLEEPER, "args": [str(seconds)]}


def test_a_program_runs_and_its_output_is_shown(stack: Stack) -> None:
    done = stack.run("clawq", "submit", "-c", "print(6 * 7)", "--wait")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "42\n"
    assert "succeeded" in done.stderr


def test_what_a_program_leaves_behind_can_be_downloaded(stack: Stack, tmp_path: Path) -> None:
    code = (
        "import os; os.mkdir('out/deep'); open('out/deep/b', 'wb').write(bytes(range(256)) * 8192)\nopen('out/ü', 'w')"
    )
    task_id = stack.submit("python", {"code": code})
    assert stack.wait(task_id)["result"]["artifacts"] == [{"name": "deep/b", "size": 2 << 20}, {"name": "ü", "size": 0}]
    done = stack.run("clawq", "artifacts", task_id, "--all", str(tmp_path / "mine"))
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "mine" / "deep" / "b").read_bytes() == bytes(range(256)) * 8192
    assert (tmp_path / "mine" / "ü").read_bytes() == b""


def test_a_program_that_fails_says_how(stack: Stack) -> None:
    done = stack.run("clawq", "submit", "-c", "raise SystemExit(3)", "--wait", "--json")
    assert done.returncode == 1
    task = json.loads(done.stdout)
    assert task["status"] == "failed"
    assert (task["result"]["verdict"], task["result"]["exit_code"]) == ("nonzero_exit", 3)


def test_a_bad_payload_is_refused_in_words(stack: Stack) -> None:
    done = stack.run("clawq", "submit", "--payload", '{"code": "1", "argv": ["x"]}')
    assert done.returncode == 1
    assert "exactly one of code and argv" in done.stderr
    assert "Traceback" not in done.stderr


def test_progress_and_logs_arrive_while_it_runs(stack: Stack) -> None:
    code = (
        "import os, time\nfd = int(os.environ['CLAWQ_PROGRESS_FD'])\nprint('first')\n"
        'os.write(fd, b\'{"progress": 40, "note": "on the way"}\\n\')\ntime.sleep(30)'
    )
    task_id = stack.submit("python", {"code": code})
    eventually(lambda: stack.get(f"/tasks/{task_id}")["progress"] == 40)
    shown = eventually(lambda: stack.run("clawq", "logs", task_id).stdout)
    assert shown == "first\n"
    assert stack.get(f"/tasks/{task_id}")["status"] == "running"
    stack.run("clawq", "cancel", task_id)
    stack.wait(task_id, "cancelled")


def test_tasks_of_every_role_are_answered(stack: Stack) -> None:
    agents = {a["agent_type"]: a["id"] for a in stack.get("/agents")["items"]}
    for role in ("gateway", "coordinator", "execution", "memory"):
        task = stack.wait(stack.submit("echo", {"role": role}, assigned_to=agents[role]))
        assert (task["status"], task["queue"], task["result"]) == ("succeeded", role, {"role": role})


def test_a_running_task_is_cancelled_once_its_program_is_dead(stack: Stack) -> None:
    task_id = stack.submit("python", sleeper(60))
    stack.wait(task_id, "running")
    said = stack.run("clawq", "cancel", task_id)
    assert "asked to stop" in said.stdout
    task = stack.wait(task_id, "cancelled")
    assert stack.events(task_id)[-2:] == ["cancel_requested", "cancelled"]
    assert task["result"]["verdict"] == "cancelled"


def test_children_wait_for_their_parents(stack: Stack) -> None:
    parent = stack.submit("python", sleeper(1))
    child = stack.submit("echo", {"n": 1}, dependencies=[parent])
    waits = stack.get(f"/tasks/{child}/explain")["waiting_for"]
    assert any(reason["kind"] == "parent" for reason in waits)
    assert stack.wait(child)["status"] == "succeeded"
    ended = stack.get(f"/tasks/{parent}")["completed_at"]
    assert stack.get(f"/tasks/{child}")["started_at"] >= ended


def test_a_killed_worker_costs_an_attempt_and_nothing_else(stack: Stack) -> None:
    task_id = stack.submit("python", sleeper(4))
    stack.wait(task_id, "running")
    eventually(lambda: "log" in stack.events(task_id))
    before = containers(stack)
    stack.signal("execution", signal.SIGKILL)
    task = stack.wait(task_id)
    assert (task["status"], task["attempt"]) == ("succeeded", 2)
    events = stack.events(task_id)
    assert events.count("lease_expired") == 1
    assert events.count("succeeded") == 1
    assert before or task["result"]["sandbox"] != "docker"
    eventually(lambda: not before & containers(stack), timeout=60)


def test_a_worker_that_leaves_hands_back_what_it_cannot_finish(stack: Stack) -> None:
    task_id = stack.submit("python", sleeper(5))
    stack.wait(task_id, "running")
    pid = stack.signal("execution", signal.SIGTERM)
    eventually(lambda: not _alive(pid), timeout=30)
    task = stack.wait(task_id)
    assert (task["status"], task["attempt"], task["failures"]) == ("succeeded", 2, 0)
    assert "lease_expired" not in stack.events(task_id)


def test_the_late_result_of_a_stopped_worker_is_refused(stack: Stack) -> None:
    # The pid first: asking for it takes a while on a busy machine, and the program must not end meanwhile.
    pid = eventually(lambda: stack.pid("execution"))
    task_id = stack.submit("python", sleeper(8))
    stack.wait(task_id, "running")
    os.kill(pid, signal.SIGSTOP)
    eventually(lambda: "lease_expired" in stack.events(task_id), timeout=30)
    os.kill(pid, signal.SIGCONT)
    task = stack.wait(task_id)
    assert (task["status"], task["attempt"]) == ("succeeded", 2)
    assert stack.events(task_id).count("succeeded") == 1


def containers(stack: Stack) -> set[str]:
    """Ids of all containers of the stack; none where there is no engine."""
    label = f"label={STACK}={stack_name(Settings(home=stack.home))}"
    listing = ["docker", "ps", "--all", "--quiet", "--filter", label]
    try:
        return set(subprocess.run(listing, capture_output=True, text=True, check=False).stdout.split())
    except FileNotFoundError:
        return set()


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
