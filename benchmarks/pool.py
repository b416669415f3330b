"""The stack's warm pool, seen from outside: how full it is, how many slots draw on it, what its worker weighs."""

from __future__ import annotations

import re
import socket
import time
import urllib.request
from pathlib import Path
from typing import Any

from app.settings import Settings
from benchmarks.setting import Stack, until
from workers.sandbox.choose import stack_name
from workers.sandbox.profile import STACK

#: Seconds without anything to do before a measurement.
QUIET_S = 0.3
#: Seconds for everything that was posted to end, on a slow machine.
PATIENCE_S = 900


class Pool:
    """The execution worker of a stack and the containers that it keeps."""

    def __init__(self, where: Stack, api: Any, size: int) -> None:
        """`size`: containers that the stack is told to keep."""
        self._where, self._api, self._size = where, api, size
        self._name = f"execution@{socket.gethostname()}"
        (found,) = [w for w in where.client().call("GET", "/api/v1/workers")["items"] if w["name"] == self._name]
        if found["info"]["sandbox"] != "docker":
            raise RuntimeError("no container engine: the stack runs code in processes")
        self._stack = stack_name(Settings(home=Path(where.env["CLAWQ_HOME"])))
        self._metrics = f"http://127.0.0.1:{found['info']['health_port']}/metrics"

    def settle(self) -> None:
        """Wait until the pool is full, all others have been removed, and it has been quiet since."""
        until(lambda: self.depth() == self._size == self._containers(), PATIENCE_S)
        time.sleep(QUIET_S)

    def grow(self, slots: int) -> None:
        """Give the worker so many more slots."""
        self._where.run("celery", "-A", "app", "control", "-d", self._name, "pool_grow", str(slots))

    def depth(self) -> int:
        """Containers that wait."""
        with urllib.request.urlopen(self._metrics, timeout=10) as answer:  # noqa: S310
            found = re.search(rb"^sandbox_pool_depth (\S+)$", answer.read(), re.MULTILINE)
        return int(float(found[1])) if found else 0

    def rss_mb(self) -> float:
        """Resident memory of the worker, MiB."""
        status = Path(f"/proc/{self._where.pids['execution']}/status").read_text()
        found = re.search(r"^VmRSS:\s+(\d+) kB$", status, re.MULTILINE)
        return int(found[1]) / 1024 if found else 0.0

    def _containers(self) -> int:
        return len(self._api.containers(all=True, filters={"label": f"{STACK}={self._stack}"}))
