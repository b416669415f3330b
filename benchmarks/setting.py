"""Where measurements happen: a stack of clawq and workers of plain Celery beside it, on the same Redis."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import psycopg2
import redis

from benchmarks.client import Client

ROOT = Path(__file__).parent.parent
PROGRAMS = Path(sys.executable).parent


@dataclass(frozen=True)
class Stack:
    """A running stack, the addresses of what is under it, and the pid of each of its processes by role."""

    api_url: str
    api_key: str
    database_url: str
    redis_url: str
    pids: dict[str, int]
    env: dict[str, str]

    def client(self) -> Client:
        """A client with the first key."""
        return Client(self.api_url, self.api_key)

    def run(self, *argv: str) -> str:
        """What one of the environment's programs prints, which must succeed."""
        return _run(self.env, *argv)

    def sql(self, statement: str) -> list[tuple[Any, ...]]:
        """The rows that a query returns."""
        with psycopg2.connect(self.database_url) as connection, connection.cursor() as cursor:
            cursor.execute(statement)
            return list(cursor.fetchall())


@contextmanager
def stack(*options: str, **settings: str) -> Iterator[Stack]:
    """A stack in a temporary home with these settings, stopped and removed at the end.

    `options` are more of `clawq up`.
    """
    ours = ("CLAWQ_", "DATABASE", "REDIS", "VECTOR")
    clean = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    with tempfile.TemporaryDirectory(prefix="clawq-bench-") as home:
        free = dict.fromkeys(("CLAWQ_API_PORT", "CLAWQ_WS_PORT", "CLAWQ_FLOWER_PORT"), "0")
        env = {**clean, "CLAWQ_HOME": home, **free, "LOG_LEVEL": "WARNING", **settings}
        # Nobody watches, and whoever does takes part.
        told = json.loads(_run(env, "clawq", "up", "--background", "--json", "--without", "flower", *options))
        try:
            written = dict(line.split("=", 1) for line in (Path(home) / "stack.env").read_text().splitlines())
            urls = {name: written[name].strip("'") for name in ("DATABASE_URL", "REDIS_URL")}
            pids = {p["role"]: p["pid"] for p in json.loads(_run(env, "clawq", "status", "--json"))["processes"]}
            yield Stack(told["api_url"], told["api_key"], urls["DATABASE_URL"], urls["REDIS_URL"], pids, env)
        finally:
            _run(env, "clawq", "down")


def _run(env: dict[str, str], *argv: str) -> str:
    command = [PROGRAMS / argv[0], *argv[1:]]
    return subprocess.run(command, env=env, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True).stdout


@contextmanager
def raw_workers(broker: str, slots: tuple[int, ...], **more: str) -> Iterator[dict[str, int]]:
    """Plain Celery workers, one with a thread pool of each of these sizes. Yields their pids by name.

    `more` is more of their environment.
    """
    quiet = {"PYTHONWARNINGS": "ignore:You're running the worker with superuser"}
    env = {**os.environ, "BENCH_BROKER": broker, **quiet, **more}
    command = [PROGRAMS / "celery", "-q", "-A", "benchmarks.raw", "worker", "-P", "threads", "--loglevel", "WARNING"]
    processes = [
        subprocess.Popen([*command, "-c", str(size), "-n", f"raw{number}@%h"], env=env, cwd=ROOT)
        for number, size in enumerate(slots)
    ]
    try:
        yield {f"worker {number + 1}": process.pid for number, process in enumerate(processes)}
    finally:
        for process in processes:
            process.send_signal(signal.SIGTERM)
        for process in processes:
            process.wait(30)


def other_database(redis_url: str, number: int) -> str:
    """The URL of another database of the same Redis."""
    return urlunsplit(urlsplit(redis_url)._replace(path=f"/{number}"))


def until(condition: Callable[[], bool], timeout_s: float = 120, *, every_s: float = 0.005) -> None:
    """Wait for a condition, looking that often."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {timeout_s} s")
        time.sleep(every_s)


def all_ended(database_url: str) -> Callable[[], bool]:
    """A look at whether every task that is due has ended."""
    connection = psycopg2.connect(database_url)
    connection.autocommit = True
    cursor = connection.cursor()

    def look() -> bool:
        cursor.execute(
            "SELECT NOT EXISTS (SELECT FROM tasks WHERE status IN ('queued', 'running')"
            " OR status = 'pending' AND available_at <= now())"
        )
        row = cursor.fetchone()
        return bool(row and row[0])

    return look


def drained(broker: str, queue: str = "celery") -> Callable[[], bool]:
    """A look at whether plain Celery has taken and acknowledged everything."""
    client = redis.Redis.from_url(broker)
    return lambda: not client.llen(queue) and not client.hlen("unacked")
