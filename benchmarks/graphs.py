"""Graphs to run as workflows: each a task's key → the keys that it depends on, parents first."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

Graph = dict[str, list[str]]

RECORDED = Path(__file__).resolve().parents[1] / "tests" / "data" / "workflows"
EPIGENOMICS = "epigenomics-chameleon-hep-1seq-100k-001"
SEISMOLOGY = "seismology-chameleon-1000p-001"


def recorded(name: str) -> Graph:
    """One that somebody has run in earnest."""
    tasks = json.loads((RECORDED / f"{name}.json").read_text(encoding="utf-8"))["tasks"]
    return {task["key"]: task["depends_on"] for task in tasks}


def chain(nodes: int) -> Graph:
    """One after another."""
    return {f"t{n}": [f"t{n - 1}"] if n else [] for n in range(nodes)}


def fork_join(branches: int, length: int = 1) -> Graph:
    """A root, branches of so many tasks each, and where they meet."""
    made: Graph = {"root": []}
    for branch in range(branches):
        for place in range(length):
            made[f"b{branch}-{place}"] = [f"b{branch}-{place - 1}" if place else "root"]
    return made | {"join": [f"b{branch}-{length - 1}" for branch in range(branches)]}


def diamond() -> Graph:
    """The smallest of those."""
    return fork_join(2)


def n_shape() -> Graph:
    """`c` waits for `a` alone, `d` for `a` and `b`: what is cut into layers has `c` wait for `b`."""
    return {"a": [], "b": [], "c": ["a"], "d": ["a", "b"]}


def layered(nodes: int, width: int = 10, seed: int = 1) -> Graph:
    """Layers of `width`; each task below the first depends on two random ones of the layer above it."""
    dice = random.Random(seed)  # noqa: S311
    above = {n: (n // width - 1) * width for n in range(nodes)}
    return {
        f"t{n}": [] if above[n] < 0 else [f"t{above[n] + place}" for place in sorted(dice.sample(range(width), 2))]
        for n in range(nodes)
    }


def scattered(nodes: int, seed: int) -> Graph:
    """In no layers: each task depends on up to three random ones of those before it."""
    dice = random.Random(seed)  # noqa: S311
    return {f"t{n}": [f"t{p}" for p in sorted(dice.sample(range(n), min(n, dice.randrange(4))))] for n in range(nodes)}


def below(graph: Graph, *keys: str) -> set[str]:
    """All that wait for these, one way or another; the keys themselves left out."""
    found = set(keys)
    for key, parents in in_order(graph):
        if found.intersection(parents):
            found.add(key)
    return found - set(keys)


def longest_path(graph: Graph, seconds: Mapping[str, float]) -> float:
    """How long it takes at least, were there no cost and no lack of slots."""
    ends: dict[str, float] = {}
    for key, parents in in_order(graph):
        ends[key] = seconds[key] + max((ends[parent] for parent in parents), default=0.0)
    return max(ends.values())


def in_order(graph: Graph) -> list[tuple[str, list[str]]]:
    """Its items, parents before their children."""
    done: dict[str, list[str]] = {}
    left = dict(graph)
    while left:
        ready = [key for key, parents in left.items() if all(parent in done for parent in parents)]
        done |= {key: left.pop(key) for key in ready}
    return list(done.items())


def document(
    graph: Graph, task_type: str = "echo", payload: Callable[[str], dict[str, Any]] = lambda _: {}, **fields: Any
) -> dict[str, Any]:
    """The workflow to post.

    Args:
        graph: what depends on what.
        task_type: of every task.
        payload: a task's, by its key.
        fields: what else the document says.
    """
    tasks = [
        {"key": key, "task_type": task_type, "payload": payload(key), "depends_on": parents}
        for key, parents in graph.items()
    ]
    return {"name": "graph", **fields, "tasks": tasks}
