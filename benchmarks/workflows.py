"""Workflows: what a node costs, how far a makespan is from its critical path, and what is left behind.

Chains and chords of plain Celery are measured in turns with the same of clawq, on the same Redis, with as many
processes and slots. For a quick look, CLAWQ_BENCH_NODES bounds the size of a graph.
"""

from __future__ import annotations

import json
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import redis

from benchmarks import graphs, sleeping
from benchmarks.aims import Aim, show
from benchmarks.graphs import Graph
from benchmarks.setting import Stack, other_database, raw_workers, stack, until
from benchmarks.throughput import SLOTS

LARGEST = int(os.environ.get("CLAWQ_BENCH_NODES", "10000"))
#: Nodes of a graph → how often it is run; the median counts.
ROUNDS = {10: 9, 100: 7, 1_000: 3, 10_000: 1}
KINDS: dict[str, Callable[[int], Graph]] = {
    "chain": graphs.chain,
    "fan-out and join": lambda nodes: graphs.fork_join(nodes - 2),
    "layers of 10, two parents each": graphs.layered,
}
CHAIN, FAN, TURNS = 40, 400, 15
#: Slots for tasks that sleep: more than ever run at once.
ENOUGH = 64
SLEEPS_S = (0.3, 1.0)
WARM_UP, MANY, CLIENTS = 200, 1_000, 8
#: Seconds after which Redis has forgotten what a chord was counted in.
FORGOTTEN_S = 10
PATIENCE_S = 600
_WORKERS = ("gateway", "coordinator", "execution")


class Flows:
    """Runs workflows on a stack, one at a time."""

    def __init__(self, where: Stack) -> None:
        self.where = where

    def run(self, document: dict[str, Any]) -> tuple[str, float]:
        """Run one to its end, which must be success. Returns its id, and milliseconds from POST to `succeeded`."""
        # A connection that rested while other things were measured would have been closed.
        client = self.where.client()
        request = client.request("POST", "/api/v1/workflows", document)
        began = time.perf_counter()
        flow = json.loads(client.send(request))
        while flow["status"] not in ("succeeded", "failed", "cancelled"):
            if time.perf_counter() > began + PATIENCE_S:
                raise TimeoutError(f"workflow {flow['id']} is {flow['status']}: {flow['counts']}")
            flow = client.call("GET", f"/api/v1/workflows/{flow['id']}?wait=30")
        if flow["status"] != "succeeded":
            raise RuntimeError(f"workflow {flow['id']} is {flow['status']}: {flow['error']}")
        return flow["id"], (time.perf_counter() - began) * 1000

    def graph_ms(self, graph: Graph) -> float:
        """Milliseconds for a graph of echo tasks."""
        return self.run(graphs.document(graph))[1]


# What a node costs


def costs(flows: Flows) -> dict[str, dict[int, float]]:
    """Milliseconds a node by kind of graph and number of nodes: from POST to `succeeded`, shared by all of them."""
    found: dict[str, dict[int, float]] = {kind: {} for kind in KINDS}
    for nodes, rounds in ROUNDS.items():
        for kind, make in KINDS.items():
            if nodes <= LARGEST:
                graph = make(nodes)
                found[kind][nodes] = statistics.median(flows.graph_ms(graph) for _ in range(rounds)) / nodes
    return found


def fan_ms(flows: Flows) -> float:
    """Milliseconds from the end of the root to that of the join, by Postgres' clock."""
    workflow_id, _ = flows.run(graphs.document(graphs.fork_join(FAN)))
    ((seconds,),) = flows.where.sql(
        f"""
        SELECT extract(epoch FROM j.completed_at - r.completed_at)::float8 FROM tasks r JOIN tasks j USING (workflow_id)
        WHERE workflow_id = '{workflow_id}' AND r.key = 'root' AND j.key = 'join'
        """  # noqa: S608
    )
    return float(seconds) * 1000


def beside_celery(flows: Flows, broker: str) -> dict[str, list[tuple[float, float]]]:
    """(clawq, plain Celery) in milliseconds, in turns."""
    # What sends chords needs a backend too, but no subscription to results that it never looks at.
    os.environ |= {"BENCH_BROKER": broker, "BENCH_BACKEND": f"app.backend:QuietBackend+{broker}"}
    from benchmarks import raw

    chain = graphs.chain(CHAIN)
    with raw_workers(broker, SLOTS, BENCH_BACKEND=broker):
        raw.chain_ms(CHAIN), raw.chord_ms(FAN)
        return {
            "chain": [(flows.graph_ms(chain), raw.chain_ms(CHAIN)) for _ in range(TURNS)],
            "fan": [(fan_ms(flows), raw.chord_ms(FAN)) for _ in range(TURNS)],
        }


# How far from the critical path


def makespans() -> dict[str, tuple[float, float]]:
    """(critical path, from POST to `succeeded`) in seconds, of tasks that sleep and have enough slots."""
    shapes = {
        "chain of 6": graphs.chain(6),
        "diamond": graphs.diamond(),
        "N: a → c, a and b → d": graphs.n_shape(),
        "fork-join, 8 branches of 3": graphs.fork_join(8, length=3),
        **{f"6 random layers of 8 ({seed})": graphs.layered(48, width=8, seed=seed) for seed in (1, 2, 3)},
        **{f"48 tasks without layers ({seed})": graphs.scattered(48, seed) for seed in (1, 2, 3)},
    }
    with sleeping_stack() as where:
        flows = Flows(where)
        flows.run(graphs.document(graphs.fork_join(ENOUGH), "sleep"))
        return {name: _makespan(flows, graph) for name, graph in shapes.items()}


def _makespan(flows: Flows, graph: Graph) -> tuple[float, float]:
    dice = random.Random(len(graph))  # noqa: S311
    seconds = {key: round(dice.uniform(*SLEEPS_S), 3) for key in graph}
    _, took = flows.run(graphs.document(graph, "sleep", lambda key: {"s": seconds[key]}))
    return graphs.longest_path(graph, seconds), took / 1000


@contextmanager
def sleeping_stack() -> Iterator[Stack]:
    """A stack with enough slots, whose workers know how to sleep."""
    with tempfile.TemporaryDirectory(prefix="clawq-bench-") as here:
        procfile = sleeping.procfile(Path(here) / "Procfile", slots=ENOUGH)
        with stack("--procfile", str(procfile), **sleeping.ENVIRONMENT) as where:
            yield where


# What is left behind


def recorded_mb(flows: Flows) -> float:
    """Megabytes to and from Redis for a recorded graph of 1,001 tasks."""
    with redis.Redis.from_url(flows.where.redis_url) as client:
        before = _traffic(client)
        flows.graph_ms(graphs.recorded(graphs.SEISMOLOGY))
        return (_traffic(client) - before) / 1e6


def _traffic(client: redis.Redis) -> int:
    stats: Any = client.info("stats")
    return int(stats["total_net_input_bytes"] + stats["total_net_output_bytes"])


def left_behind(where: Stack) -> tuple[dict[str, float], dict[str, float]]:
    """Keys and channels of Redis and MiB of workers, before and after a thousand workflows."""
    post_many(where, WARM_UP)
    before = _traces(where)
    post_many(where, MANY)
    return before, _traces(where)


def post_many(where: Stack, count: int) -> None:
    """Run small workflows, as many at once as come together."""

    def post(share: int) -> None:
        client = where.client()
        request = client.request("POST", "/api/v1/workflows", graphs.document(graphs.fork_join(4)))
        for _ in range(share):
            client.send(request)

    with ThreadPoolExecutor(CLIENTS) as pool:
        list(pool.map(post, [count // CLIENTS] * CLIENTS))
    until(
        lambda: where.sql("SELECT count(*) FROM workflows WHERE completed_at IS NULL") == [(0,)],
        PATIENCE_S,
        every_s=0.2,
    )


def _traces(where: Stack) -> dict[str, float]:
    time.sleep(FORGOTTEN_S)
    with redis.Redis.from_url(where.redis_url) as client:
        keys, channels = len(client.keys()), len(client.pubsub_channels())
    weights = {f"{role}, MiB": psutil.Process(where.pids[role]).memory_info().rss / 2**20 for role in _WORKERS}
    return {"keys in Redis": keys, "channels in Redis": channels, **weights}


# To be read


def show_costs(found: dict[str, dict[int, float]]) -> list[Aim]:
    """Print what a node costs. Returns what is aimed at: that it costs the same among many."""
    print(f"\n| ms a node | {' | '.join(f'{nodes:,}' for nodes in ROUNDS)} |\n| --- |{' ---: |' * len(ROUNDS)}")
    for kind, by_size in found.items():
        print(f"| {kind} | {' | '.join(f'{by_size[n]:.2f}' if n in by_size else '' for n in ROUNDS)} |")
    growth = {
        f"a node of {largest:,} / of {before:,}: {kind}": by_size[largest] / by_size[before]
        for kind, by_size in found.items()
        for *_, before, largest in [list(by_size)]
    }
    return [Aim(what, ratio, 1.25) for what, ratio in growth.items()]


def show_pairs(found: dict[str, list[tuple[float, float]]]) -> list[Aim]:
    """Print clawq beside plain Celery. Returns what is aimed at."""
    names = {
        "chain": (f"{CHAIN} one after another, from POST to `succeeded`", 1000.0),
        "fan": (f"{FAN} side by side, from the root's end to the join's", 150.0),
    }
    print(f"\n| ms, medians of {TURNS} | clawq | plain Celery | ratio |\n| --- | ---: | ---: | ---: |")
    aims = []
    for name, pairs in found.items():
        what, most = names[name]
        ours, others = (statistics.median(side) for side in zip(*pairs, strict=True))
        # Of each turn, not of the medians: both sides of one saw the same machine.
        ratio = statistics.median(mine / its for mine, its in pairs)
        print(f"| {what} | {ours:.0f} | {others:.0f} | {ratio:.2f} |")
        aims.append(Aim(what, ours, most, " ms"))
    return aims


def show_makespans(found: dict[str, tuple[float, float]]) -> list[Aim]:
    """Print makespans. Returns what is aimed at."""
    print("\n| tasks that sleep, seconds | critical path | POST to `succeeded` | ratio |\n| --- | ---: | ---: | ---: |")
    for name, (path, took) in found.items():
        print(f"| {name} | {path:.2f} | {took:.2f} | {took / path:.3f} |")
    return [Aim("makespan / critical path, the worst", max(took / path for path, took in found.values()), 1.15)]


def show_traces(before: dict[str, float], after: dict[str, float]) -> list[Aim]:
    """Print what is left behind. Returns what is aimed at."""
    print(f"\n| | before | after {MANY:,} workflows |\n| --- | ---: | ---: |")
    for name in before:
        print(f"| {name} | {before[name]:.4g} | {after[name]:.4g} |")
    lasting = [name for name in before if name.endswith("Redis")]
    return [Aim(f"{name} more than before", after[name] - before[name], 0) for name in lasting] + [
        Aim(f"{name} / before", after[name] / before[name], 1.05) for name in before if name not in lasting
    ]


def main() -> None:
    """Measure, and print figures beside what is aimed at."""
    print(f"Load average at the start: {os.getloadavg()[0]:.2f} on {os.cpu_count()} cores.")
    with stack() as where:
        flows = Flows(where)
        for make in KINDS.values():
            flows.graph_ms(make(100))
        aims = show_pairs(beside_celery(flows, other_database(where.redis_url, 1)))
        aims += show_costs(costs(flows))
        aims.append(Aim("Redis, 1,001 recorded tasks", recorded_mb(flows), 5, " MB"))
    aims += show_makespans(makespans())
    with stack() as where:
        aims += show_traces(*left_behind(where))
    show(aims)


if __name__ == "__main__":
    sys.exit(main())
