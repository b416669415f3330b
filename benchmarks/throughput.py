"""No-op tasks through the whole system, beside plain Celery on the same Redis with as many processes and slots.

Each clawq task has its own durable row, attempt and four events; each Celery task is a message and no more.
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from benchmarks.costs import measured
from benchmarks.setting import Stack, all_ended, drained, other_database, raw_workers, stack, until

#: Slots of the two worker processes that carry an echo task: gateway and execution, as in the Procfile.
SLOTS = (4, 8)
BATCHES, BATCH = 5, 1000
SINGLES, CLIENTS = 2000, 8
LATENCIES = 200
ROUNDS = 5
_TASK = {"task_type": "echo", "payload": {"n": 1}}


@dataclass(frozen=True)
class Load:
    """Something that is done a number of times, and is done when `done` says so."""

    what: str
    count: int
    start: Callable[[], object]
    done: Callable[[], bool]
    processes: dict[str, int]
    #: The load that this one's rate is compared with.
    beside: str | None = None

    def run(self) -> tuple[float, dict[str, float]]:
        """Once. Returns the rate a second, and CPU milliseconds a piece by process."""
        seconds, spent = measured(self.processes, lambda: (self.start(), until(self.done)))
        return self.count / seconds, {name: cpu_s * 1000 / self.count for name, cpu_s in spent.items()}


def spread(total: int, clients: int, work: Callable[[int], object]) -> None:
    """Run `work(count)` in `clients` threads that share `total`."""
    with ThreadPoolExecutor(clients) as pool:
        list(pool.map(work, [total // clients] * clients))


def post_batches(where: Stack, delay_s: float = 0) -> None:
    """Post BATCHES batches from one client, each with bytes of its own."""
    client = where.client()
    for _ in range(BATCHES):
        tasks = [{"task_type": "echo", "payload": {"n": n}, "delay_s": delay_s} for n in range(BATCH)]
        client.call("POST", "/api/v1/tasks/batch", {"tasks": tasks})


def repeat(where: Stack, method: str, path: str, body: Any = None) -> None:
    """Send SINGLES requests from CLIENTS clients."""

    def send(count: int) -> None:
        client = where.client()
        request = client.request(method, path, body)
        for _ in range(count):
            client.send(request)

    spread(SINGLES, CLIENTS, send)


def latencies(where: Stack) -> list[float]:
    """Milliseconds from POST to `succeeded`, one task at a time on an idle stack."""
    client = where.client()

    def one() -> float:
        began = time.perf_counter()
        task = client.call("POST", "/api/v1/tasks", _TASK)
        ended = client.call("GET", f"/api/v1/tasks/{task['id']}?wait=10")
        if ended["status"] != "succeeded":
            raise RuntimeError(f"task {task['id']} is {ended['status']}")
        return (time.perf_counter() - began) * 1000

    for _ in range(20):
        one()
    return [one() for _ in range(LATENCIES)]


def loads(where: Stack, broker: str, workers: dict[str, int]) -> list[Load]:
    """What is measured, each kind beside its counterpart in plain Celery."""
    from benchmarks.raw import noop

    def send(count: int) -> None:
        for n in range(count):
            noop.apply_async(({"n": n},))

    ended, empty = all_ended(where.database_url), drained(broker)
    raw = {**workers, "redis": where.pids["redis"]}
    names = ("api", "gateway", "execution", "clock", "postgres", "redis")
    ours = {name: where.pids[name] for name in names}
    total = BATCHES * BATCH
    send(1)
    until(empty)
    return [
        Load("plain Celery: 5,000 no-ops, one client", total, lambda: send(total), empty, raw),
        Load(
            "clawq: 5 batches of 1,000 (*batched*)",
            total,
            lambda: post_batches(where),
            ended,
            ours,
            "plain Celery: 5,000 no-ops, one client",
        ),
        Load("plain Celery: 2,000 no-ops, 8 clients", SINGLES, lambda: spread(SINGLES, CLIENTS, send), empty, raw),
        Load(
            "clawq: 2,000 single POSTs, 8 clients",
            SINGLES,
            lambda: repeat(where, "POST", "/api/v1/tasks", _TASK),
            ended,
            ours,
            "plain Celery: 2,000 no-ops, 8 clients",
        ),
        Load("GET /health, 8 clients", SINGLES, lambda: repeat(where, "GET", "/health"), lambda: True, ours),
        Load("accepting 5 batches of 1,000, alone", total, lambda: post_batches(where, 86_400), lambda: True, ours),
    ]


def show(measured_loads: Sequence[tuple[Load, Sequence[tuple[float, dict[str, float]]]]], waits: list[float]) -> None:
    """Print medians and ratios as Markdown."""
    medians = {load.what: statistics.median(rate for rate, _ in runs) for load, runs in measured_loads}
    print("\n| to the end of all tasks | a second | ratio |\n| --- | ---: | ---: |")
    for load, runs in measured_loads:
        # The ratio of each round, not of the medians: both sides of one saw the same machine.
        others = next((r for other, r in measured_loads if other.what == load.beside), None)
        ratios = [mine / its for (mine, _), (its, _) in zip(runs, others, strict=True)] if others else []
        print(f"| {load.what} | {medians[load.what]:,.0f} | {f'{statistics.median(ratios):.2f}' if ratios else ''} |")
    middle, late = statistics.median(waits), sorted(waits)[int(len(waits) * 0.95)]
    print(f"\nOne task on an idle stack, POST to `succeeded`: median {middle:.1f} ms, 95th percentile {late:.1f} ms.\n")
    names = list(dict.fromkeys(name for _, runs in measured_loads for name in runs[0][1]))
    print(f"| CPU ms a task | {' | '.join(names)} | sum |\n| --- |{' ---: |' * (len(names) + 1)}")
    for load, runs in measured_loads:
        cpu = {name: statistics.median(spent[name] for _, spent in runs) for name in runs[0][1]}
        cells = [f"{cpu[name]:.3f}" if name in cpu else "" for name in names]
        print(f"| {load.what} | {' | '.join(cells)} | {sum(cpu.values()):.2f} |")


def main() -> None:
    """Measure in turns, so that both sides see the same machine, and print medians and ratios."""
    with stack() as where:
        broker = other_database(where.redis_url, 1)
        os.environ["BENCH_BROKER"] = broker
        with raw_workers(broker, SLOTS) as workers:
            waits = latencies(where)
            todo = loads(where, broker, workers)
            rounds = [[load.run() for load in todo] for _ in range(ROUNDS)]
            other = where.sql("SELECT count(*) FROM tasks WHERE status <> 'succeeded' AND available_at <= now()")
    if other != [(0,)]:
        raise RuntimeError(f"{other[0][0]} tasks did not succeed")
    show(list(zip(todo, zip(*rounds, strict=True), strict=True)), waits)


if __name__ == "__main__":
    sys.exit(main())
