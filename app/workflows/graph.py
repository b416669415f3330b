"""Graph: whether the tasks of a workflow can be done in an order at all, and what follows from that order.

Pure, without recursion, and linear in tasks and edges: a workflow has up to 10,000 tasks, in a chain or a fan.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice

from app.errors import Problem
from app.tasks.check import MAX_CHILDREN
from app.workflows.asked import NewStep

#: Tasks of a workflow; those that `map` adds not counted.
MAX_TASKS = 10_000
#: Elements of one list of `map`.
MAX_ITEMS = 1000
#: Entries of all `depends_on` together: each is a row.
MAX_EDGES = 100_000
KEY = re.compile(r"[A-Za-z0-9_-]{1,200}")

#: More would help nobody.
_MOST_PROBLEMS = 100
#: Tasks of a cycle that are named at each end of it.
_ENDS = 10
_Parents = Mapping[str, Sequence[str]]


def problems_of(steps: Sequence[NewStep]) -> list[Problem]:
    """Why these tasks make no workflow: the first hundred reasons. None: keys are unique and nothing is circular."""
    if not steps:
        return [Problem(("tasks",), "a workflow has at least one task")]
    if len(steps) > MAX_TASKS:
        return [Problem(("tasks",), f"a workflow has at most {MAX_TASKS} tasks")]
    if sum(len(step.depends_on) for step in steps) > MAX_EDGES:
        return [Problem(("tasks",), f"all depends_on together have at most {MAX_EDGES} entries")]
    return list(islice(_problems(steps), _MOST_PROBLEMS))


def order(steps: Sequence[NewStep]) -> list[NewStep]:
    """The tasks with parents before children, otherwise as they came. They must have no `problems_of`."""
    by_key = {step.key: step for step in steps}
    return [by_key[key] for key in _parents_first({step.key: step.depends_on for step in steps})]


def strangers(steps: Sequence[NewStep], asked: Mapping[str, set[str]]) -> dict[str, list[str]]:
    """Which tasks refer to tasks that need not have ended when they start: those that are none of their ancestors.

    Args:
        steps: have no `problems_of`.
        asked: the keys that each task refers to.

    Returns:
        By the key of the task that refers, what it may not refer to, sorted.
    """
    parents = {step.key: step.depends_on for step in steps}
    far = {key: asked[key].difference(parents[key]) for key in parents if key in asked}
    # A set of ancestors is one number with a bit for each task that matters: ten thousand of them stay small.
    bits = {key: 1 << place for place, key in enumerate(sorted(set().union(*far.values()) & parents.keys()))}
    above: dict[str, int] = {}
    for key in _parents_first(parents) if bits else ():
        above[key] = 0
        for parent in parents[key]:
            above[key] |= above[parent] | bits.get(parent, 0)
    found = {
        key: sorted(other for other in others if not above.get(key, 0) & bits.get(other, 0))
        for key, others in far.items()
    }
    return {key: others for key, others in found.items() if others}


def critical_path(durations: Mapping[str, float], parents: _Parents) -> list[str]:
    """The chain of tasks that takes longest; among equals the one of most tasks, then the first.

    Parents without a duration do not count. Nothing may be circular.
    """
    known = {key: [p for p in parents.get(key, ()) if p in durations] for key in durations}
    best: dict[str, tuple[float, int]] = {}
    before: dict[str, str | None] = {}
    for key in _parents_first(known):
        last = before[key] = max(known[key], key=best.__getitem__, default=None)
        seconds, tasks = best[last] if last is not None else (0.0, 0)
        best[key] = (seconds + durations[key], tasks + 1)
    path: list[str] = []
    step = max(durations, key=best.__getitem__, default=None)
    while step is not None:
        path.append(step)
        step = before[step]
    return path[::-1]


def _problems(steps: Sequence[NewStep]) -> Iterator[Problem]:
    first: dict[str, int] = {}
    for place, step in enumerate(steps):
        if not KEY.fullmatch(step.key):
            yield Problem(("tasks", place, "key"), "must be 1 to 200 letters, digits, _ and -")
        elif step.key in first:
            yield Problem(("tasks", place, "key"), f"task {first[step.key]} has this key too")
        first.setdefault(step.key, place)
    for place, step in enumerate(steps):
        yield from _entries(place, step, first)
    children = Counter(parent for step in steps for parent in set(step.depends_on))
    for key, place in first.items():
        if children[key] > MAX_CHILDREN:
            yield Problem(("tasks", place, "key"), f"at most {MAX_CHILDREN} tasks can wait for one")
    graph = {key: [p for p in steps[at].depends_on if p in first and p != key] for key, at in first.items()}
    for cycle in _cycles(graph):
        place = first[cycle[0]]
        entry = list(steps[place].depends_on).index(cycle[1])
        msg = f"cycle: {_named(cycle)} (each waits for the next)"
        yield Problem(("tasks", place, "depends_on", entry), msg)


def _entries(place: int, step: NewStep, first: Mapping[str, int]) -> Iterator[Problem]:
    seen: set[str] = set()
    for position, parent in enumerate(step.depends_on):
        where = ("tasks", place, "depends_on", position)
        if parent in seen:
            yield Problem(where, f"{_short(parent)} is there twice")
        elif parent == step.key:
            yield Problem(where, "a task cannot wait for itself")
        elif parent not in first:
            yield Problem(where, f"no task has the key {_short(parent)}")
        seen.add(parent)


def _short(key: str) -> str:
    return key if len(key) <= 200 else f"{key[:200]}…"


def _named(cycle: Sequence[str]) -> str:
    if len(cycle) > 2 * _ENDS + 1:
        left_out = f"… {len(cycle) - 2 * _ENDS} more …"
        cycle = [*cycle[:_ENDS], left_out, *cycle[-_ENDS:]]
    return " → ".join(cycle)


def _parents_first(parents: _Parents) -> list[str]:
    """The keys with parents before children: each key of the mapping in turn, after what is still missing for it."""
    seen: set[str] = set()
    done: list[str] = []
    for start in parents:
        path = [] if start in seen else [(start, iter(parents[start]))]
        seen.add(start)
        while path:
            key, rest = path[-1]
            missing = next((p for p in rest if p not in seen), None)
            if missing is None:
                done.append(key)
                path.pop()
            else:
                seen.add(missing)
                path.append((missing, iter(parents[missing])))
    return done


def _cycles(parents: _Parents) -> Iterator[list[str]]:
    """A shortest cycle through the first task of each knot, its first task named again at the end."""
    knots = {key: number for number, knot in enumerate(_knots(parents)) if len(knot) > 1 for key in knot}
    seen: set[int] = set()
    for start in parents:
        if start in knots and knots[start] not in seen:
            seen.add(knots[start])
            yield _way_back(start, parents, knots)


def _way_back(start: str, parents: _Parents, knots: Mapping[str, int]) -> list[str]:
    came_from = {start: ""}
    todo = [start]
    for key in todo:
        for parent in parents[key]:
            if parent == start:
                path = [start]
                while key:
                    path.append(key)
                    key = came_from[key]
                return path[::-1]
            if knots.get(parent) == knots[start] and parent not in came_from:
                came_from[parent] = key
                todo.append(parent)
    raise AssertionError("every task of a knot lies on a cycle")


def _knots(parents: _Parents) -> Iterator[list[str]]:
    """The sets of tasks that all wait for one another, by Tarjan's algorithm; a task that is in no cycle is alone."""
    number: dict[str, int] = {}
    lowest: dict[str, int] = {}
    open_: list[str] = []
    settled: set[str] = set()
    for start in parents:
        path = [] if start in number else [(start, iter(parents[start]))]
        while path:
            key, rest = path[-1]
            if key not in number:
                number[key] = lowest[key] = len(number)
                open_.append(key)
            for parent in rest:
                if parent not in number:
                    path.append((parent, iter(parents[parent])))
                    break
                if parent not in settled:
                    lowest[key] = min(lowest[key], number[parent])
            else:
                path.pop()
                if path:
                    lowest[path[-1][0]] = min(lowest[path[-1][0]], lowest[key])
                if lowest[key] == number[key]:
                    yield _settle(key, open_, settled)


def _settle(key: str, open_: list[str], settled: set[str]) -> list[str]:
    knot = [open_.pop()]
    while knot[-1] != key:
        knot.append(open_.pop())
    settled.update(knot)
    return knot
