"""A real stack for the whole run: `clawq up --background --json` in a directory of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.cli import Cli
from tests.support import HTTP, eventually

ROOT = Path(__file__).parent.parent.parent
PROGRAMS = Path(sys.executable).parent


@dataclass(frozen=True)
class Stack:
    """A running stack, seen from outside."""

    api_url: str
    api_key: str
    home: Path
    env: dict[str, str]

    def run(self, *argv: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
        """Run one of the environment's programs as a user of this stack would."""
        command = [str(PROGRAMS / argv[0]), *argv[1:]]
        return subprocess.run(command, cwd=ROOT, env=self.env, capture_output=True, text=True, timeout=timeout)

    def start(self, *argv: str) -> subprocess.Popen[str]:
        """Start one of the environment's programs in the background."""
        return subprocess.Popen(
            [str(PROGRAMS / argv[0]), *argv[1:]],
            cwd=ROOT,
            env=self.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def get(self, path: str, **params: Any) -> Any:
        """GET from the API, which must succeed."""
        return self._call("GET", path, params=params)

    def post(self, path: str, body: Any) -> Any:
        """POST to the API, which must succeed."""
        return self._call("POST", path, json=body)

    def _call(self, method: str, path: str, **kwargs: Any) -> Any:
        headers = {"Authorization": f"Bearer {self.api_key}"}
        response = HTTP.request(method, f"{self.api_url}/api/v1{path}", headers=headers, timeout=60, **kwargs)
        assert response.is_success, response.text
        return response.json()

    def submit(self, task_type: str, payload: dict[str, Any], **fields: Any) -> str:
        """Post a task and return its id."""
        task_id: str = self.post("/tasks", {"task_type": task_type, "payload": payload, **fields})["id"]
        return task_id

    def wait(self, task_id: str, *states: str, timeout: float = 60) -> dict[str, Any]:
        """The task, once it is in one of these states; by default, once it has ended."""
        wanted = states or ("succeeded", "failed", "cancelled", "skipped")
        return eventually(
            lambda: task if (task := self.get(f"/tasks/{task_id}"))["status"] in wanted else None, timeout=timeout
        )

    def workers(self) -> dict[str, dict[str, Any]]:
        """What each worker says of itself, by name."""
        return {worker["name"]: worker["info"] for worker in self.get("/workers", limit=1000)["items"]}

    def events(self, task_id: str) -> list[str]:
        """The kinds of a task's events, in order."""
        return [event["kind"] for event in self.get(f"/tasks/{task_id}/events", limit=1000)["items"]]

    def pid(self, role: str) -> int | None:
        """The pid of the process with this role, None while it does not run."""
        found = json.loads(self.run("clawq", "status", "--json").stdout)["processes"]
        return next(p["pid"] for p in found if p["role"] == role and p["state"] == "running")

    def signal(self, role: str, sign: signal.Signals) -> int:
        """Send a signal to the process with this role; returns its pid."""
        pid = eventually(lambda: self.pid(role))
        os.kill(pid, sign)
        return pid


@contextmanager
def up(home: Path, *options: str, **settings: str) -> Iterator[Stack]:
    """A stack in `home` for the length of the block, with these settings and none of the machine's.

    `options` are more of `clawq up`.
    """
    env = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("CLAWQ_", "DATABASE", "REDIS", "VECTOR"))
    }
    env |= {"CLAWQ_HOME": str(home), "CLAWQ_API_PORT": "0", "CLAWQ_WS_PORT": "0", **settings}
    # Nobody looks at Flower here, and it takes its time to start.
    command = [PROGRAMS / "clawq", "up", "--background", "--json", "--without", "flower", *options]
    up = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)
    assert up.returncode == 0, up.stderr
    told = json.loads(up.stdout)
    try:
        yield Stack(told["api_url"], told["api_key"], home, env)
    finally:
        subprocess.run([PROGRAMS / "clawq", "down"], cwd=ROOT, env=env, check=True)


@pytest.fixture(scope="package")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """One stack for all acceptance tests, with short leases so that recovery can be awaited."""
    with up(tmp_path_factory.mktemp("stack") / "home", CLAWQ_LEASE_S="3", CLAWQ_DRAIN_S="1") as stack:
        yield stack


@pytest.fixture
def cli(tmp_path: Path) -> Iterator[Cli]:
    """The command line, with nothing running yet."""
    made = Cli(tmp_path / "home")
    yield made
    made.run("down")
