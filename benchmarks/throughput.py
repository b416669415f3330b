"""No-op tasks through the whole system, beside plain Celery on the same Redis with as many processes and slots.

Each clawq task has its own durable row, attempt and four events; each Celery task is a message and no more.
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from benchmarks.setting import Stack, all_ended, drained, other_database, raw_workers, stack, until

#: Slots of the two worker processes that carry an echo task: gateway and execution, as in the Procfile.
SLOTS = (4, 8)
BATCHES, BATCH = 5, 1000
SINGLES, CLIENTS = 2000, 8
LATENCIES = 100
ROUNDS = 3


def timed(action: Callable[[], object]) -> float:
    """Seconds that `action` takes."""
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def spread(total: int, clients: int, work: Callable[[int], object]) -> None:
    """Run `work(count)` in `clients` threads that share `total`."""
    with ThreadPoolExecutor(clients) as pool:
        list(pool.map(work, [total // clients] * clients))


def post_batches(where: Stack, delay_s: float = 0) -> None:
    """Post BATCHES batches from one client."""
    connection = where.connect()
    tasks = [{"task_type": "echo", "payload": {"n": n}, "delay_s": delay_s} for n in range(BATCH)]
    for _ in range(BATCHES):
        where.call(connection, "POST", "/api/v1/tasks/batch", {"tasks": tasks})


def post_singles(where: Stack) -> None:
    """Post SINGLES tasks from CLIENTS clients."""

    def post(count: int) -> None:
        connection = where.connect()
        for n in range(count):
            where.call(connection, "POST", "/api/v1/tasks", {"task_type": "echo", "payload": {"n": n}})

    spread(SINGLES, CLIENTS, post)


def ask_health(where: Stack) -> None:
    """The HTTP server's own ceiling: as many requests that do nothing."""

    def ask(count: int) -> None:
        connection = where.connect()
        for _ in range(count):
            where.call(connection, "GET", "/health")

    spread(SINGLES, CLIENTS, ask)


def latencies(where: Stack) -> list[float]:
    """Seconds from POST to `succeeded`, one task at a time on an idle stack."""
    connection = where.connect()

    def one() -> None:
        task = where.call(connection, "POST", "/api/v1/tasks", {"task_type": "echo", "payload": {}})
        ended = where.call(connection, "GET", f"/api/v1/tasks/{task['id']}?wait=10")
        if ended["status"] != "succeeded":
            raise RuntimeError(f"task {task['id']} is {ended['status']}")

    one()
    return [timed(one) for _ in range(LATENCIES)]


def main() -> None:
    """Measure in turns, so that both sides see the same machine, and print medians and ratios."""
    with stack() as where:
        broker = other_database(where.redis_url, 1)
        os.environ["BENCH_BROKER"] = broker
        with raw_workers(broker, SLOTS):
            measure(where, broker)


def measure(where: Stack, broker: str) -> None:
    """All measurements, as a table on standard output."""
    from benchmarks.raw import noop

    ended, empty = all_ended(where.database_url), drained(broker)

    def send(count: int) -> None:
        for n in range(count):
            noop.delay({"n": n})

    def rate(total: int, action: Callable[[], object], done: Callable[[], bool]) -> float:
        return total / timed(lambda: (action(), until(done)))

    send(1)
    until(empty)
    rounds = []
    for _ in range(ROUNDS):
        rounds.append(
            (
                rate(BATCHES * BATCH, lambda: send(BATCHES * BATCH), empty),
                rate(BATCHES * BATCH, lambda: post_batches(where), ended),
                rate(SINGLES, lambda: spread(SINGLES, CLIENTS, send), empty),
                rate(SINGLES, lambda: post_singles(where), ended),
                SINGLES / timed(lambda: ask_health(where)),
                BATCHES * BATCH / timed(lambda: post_batches(where, delay_s=86_400)),
            )
        )
    raw, batched, raw_clients, singles, ceiling, accept = (
        statistics.median(column) for column in zip(*rounds, strict=True)
    )
    waits = sorted(latencies(where))
    middle, late = statistics.median(waits) * 1000, waits[int(len(waits) * 0.95)] * 1000
    rows = [
        ("plain Celery, 5,000 no-ops from one client", f"{raw:,.0f}/s", "1"),
        ("clawq, 5 batches of 1,000 (*batched*), POST to succeeded", f"{batched:,.0f}/s", f"{batched / raw:.2f}"),
        ("plain Celery, 2,000 no-ops from 8 clients", f"{raw_clients:,.0f}/s", "1"),
        ("clawq, 2,000 single POSTs from 8 clients, to succeeded", f"{singles:,.0f}/s", f"{singles / raw_clients:.2f}"),
        ("clawq, GET /health from 8 clients: the HTTP server's ceiling", f"{ceiling:,.0f}/s", ""),
        ("clawq, accepting 5 batches of 1,000, nothing else", f"{accept:,.0f}/s", ""),
        (
            "clawq, one task on an idle stack, POST to succeeded, median",
            f"{middle:.1f} ms",
            "",
        ),
        ("the same, 95th percentile", f"{late:.1f} ms", ""),
    ]
    print("| what | median | ratio |\n| --- | --- | --- |")
    for row in rows:
        print(f"| {' | '.join(row)} |")


if __name__ == "__main__":
    sys.exit(main())
