"""Picture: the graph of a workflow as it stands, with the chain of tasks that its time went into."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import text

from app.db import Db
from app.workflows.graph import critical_path

#: Nodes of a picture. A workflow's own tasks fit; a map of many adds items as far as there is room.
MOST_NODES = 20_000
#: No key ends so.
_GATE = "["
# What a program was given or gave back can be megabytes: it is not read.
_NODES = text(
    """
    SELECT id, key, task_type, status, progress, attempt, started_at, completed_at, left(error, 1000) AS error,
           mapped_from, position, dependencies, count(*) OVER () AS tasks,
           extract(epoch FROM CASE WHEN completed_at IS NOT NULL THEN completed_at - started_at
                                   WHEN status = 'running' THEN now() - started_at END)::float8 AS seconds
    FROM tasks WHERE workflow_id = :id
    ORDER BY mapped_from IS NOT NULL, coalesce(mapped_from, id), position LIMIT :most
    """
)


@dataclass(frozen=True, kw_only=True)
class Node:
    """A task in the picture."""

    key: str
    task_id: str
    task_type: str
    status: str
    progress: int | None
    attempt: int
    started_at: Any
    completed_at: Any
    #: How long it ran, or runs already. None: not at all.
    duration_s: float | None
    error: str | None
    #: The key of the task with `map` that it is an item of.
    mapped_from: str | None


@dataclass(frozen=True, kw_only=True)
class Picture:
    """Tasks, and which waits for which."""

    #: Parents before their children, items after the task that they come from.
    nodes: list[Node]
    #: (who ends first, who waits for it); items end before the task that they come from.
    edges: list[tuple[str, str]]
    critical_path: list[str]
    #: Items that there was no room for.
    left_out: int


def graph(db: Db, workflow_id: str) -> Picture:
    """The graph of a workflow that exists."""
    rows = db.execute(_NODES, {"id": workflow_id, "most": MOST_NODES}).all()
    keys = {row.id: row.key for row in rows}
    items: dict[str, list[Any]] = {}
    for row in rows:
        if row.mapped_from is not None:
            items.setdefault(row.mapped_from, []).append(row)
    own = [row for row in rows if row.mapped_from is None]
    edges = [(keys[parent], row.key) for row in own for parent in row.dependencies or () if parent in keys]
    edges += [(item.key, keys[map_id]) for map_id, some in items.items() for item in some]
    return Picture(
        nodes=[_node(row, keys) for one in own for row in (one, *items.get(one.id, ()))],
        edges=edges,
        critical_path=_longest(own, items, keys),
        left_out=rows[0].tasks - len(rows) if rows else 0,
    )


def _node(row: Any, keys: dict[str, str]) -> Node:
    return Node(
        key=row.key,
        task_id=row.id,
        task_type=row.task_type,
        status=row.status,
        progress=row.progress,
        attempt=row.attempt,
        started_at=row.started_at,
        completed_at=row.completed_at,
        duration_s=row.seconds,
        error=row.error,
        mapped_from=keys[row.mapped_from] if row.mapped_from else None,
    )


def _longest(own: Sequence[Any], items: dict[str, list[Any]], keys: dict[str, str]) -> list[str]:
    """The critical path by what was observed. A task with `map` takes no time but its items', who wait as it did."""
    durations: dict[str, float] = {}
    parents: dict[str, list[str]] = {}
    for row in own:
        durations[row.key] = row.seconds or 0.0
        parents[row.key] = [keys[parent] for parent in row.dependencies or () if parent in keys]
        if some := items.get(row.id):
            # Without a gate between them there would be an edge for each pair of parent and item.
            gate = f"{row.key}{_GATE}"
            durations |= {item.key: item.seconds or 0.0 for item in some} | {gate: 0.0, row.key: 0.0}
            parents |= {item.key: [gate] for item in some} | {gate: parents[row.key]}
            parents[row.key] = [item.key for item in some]
    return [key for key in critical_path(durations, parents) if not key.endswith(_GATE)]
