"""What the tests of workflows look at: how a workflow ended, and in which order Postgres says that things happened."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import closing
from typing import Any

import psycopg2
from psycopg2.extras import NamedTupleCursor

from tests.acceptance.conftest import Stack
from tests.support import eventually

ENDS = ("succeeded", "failed", "cancelled")


def submit(stack: Stack, document: Mapping[str, Any]) -> str:
    """Post a workflow; returns its id."""
    workflow_id: str = stack.post("/workflows", document)["id"]
    return workflow_id


def wait(stack: Stack, workflow_id: str, timeout: float = 60) -> dict[str, Any]:
    """The workflow once it has ended."""
    return eventually(
        lambda: found if (found := stack.get(f"/workflows/{workflow_id}", wait=20))["status"] in ENDS else None, timeout
    )


def states(stack: Stack, workflow_id: str) -> dict[str, str]:
    """The state of each of its tasks, by key."""
    return {node["key"]: node["status"] for node in stack.get(f"/workflows/{workflow_id}/graph")["nodes"]}


def sql(stack: Stack, statement: str, **params: Any) -> list[Any]:
    """The rows that a query returns from the stack's Postgres."""
    lines = dict(line.split("=", 1) for line in (stack.home / "stack.env").read_text().splitlines())
    url = lines["DATABASE_URL"].strip("'")
    with closing(psycopg2.connect(url, cursor_factory=NamedTupleCursor)) as connection, connection.cursor() as cursor:
        cursor.execute(statement, params)
        return cursor.fetchall()


def redis_bytes(redis: Any) -> int:
    """Bytes that have come to Redis and gone from it so far."""
    stats = redis.info("stats")
    return int(stats["total_net_input_bytes"] + stats["total_net_output_bytes"])


#: Each edge with the moments of which the first must not come after the second.
_EDGES = """
    SELECT p.key AS parent, c.key AS child, s.at AS parent_ended, r.at AS child_began
    FROM tasks c CROSS JOIN LATERAL jsonb_array_elements_text(c.dependencies) AS d (id) JOIN tasks p ON p.id = d.id
    LEFT JOIN events s ON s.task_id = p.id AND s.kind IN ('succeeded', 'failed', 'cancelled', 'skipped')
    LEFT JOIN events r ON r.task_id = c.id AND r.kind = 'running' AND r.attempt = 1
    WHERE c.workflow_id = %(id)s
"""
_SUCCESSES = """
    SELECT t.key, count(e.seq) AS n FROM tasks t LEFT JOIN events e ON e.task_id = t.id AND e.kind = 'succeeded'
    WHERE t.workflow_id = %(id)s GROUP BY t.key
"""


def assert_in_order(ask: Callable[..., list[Any]], workflow_id: str, graph: Mapping[str, list[str]]) -> None:
    """Each task has succeeded exactly once, and began after all that it depends on had ended, by Postgres' clock.

    `ask` runs a query on it, with the parameters that it names.
    """
    edges = ask(_EDGES, id=workflow_id)
    wanted = Counter((parent, child) for child, parents in graph.items() for parent in parents)
    assert Counter((edge.parent, edge.child) for edge in edges) == wanted
    early = [e for e in edges if not (e.parent_ended and e.child_began and e.parent_ended <= e.child_began)]
    assert early == []
    assert {row.key: row.n for row in ask(_SUCCESSES, id=workflow_id)} == dict.fromkeys(graph, 1)
