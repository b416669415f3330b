"""Submit: write tasks and their first events, and ring the gateway after commit."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import text

from app import publisher
from app.db import Db, after_commit
from app.errors import Invalid, NotFound, Problem, Unauthorized
from app.keys import BAD_KEY, USABLE, Caller
from app.prepared import prepared
from app.tasks.check import Asked, Known, NewTask, look_up, missing_of, problems_of
from app.tasks.types import TASK_TYPES
from schema.base import new_id
from schema.tasks import TASK_COLUMNS, TaskStatus

_INSERT = prepared(
    "submit",
    f"""
    WITH t AS (
        INSERT INTO tasks (id, owner, task_type, description, payload, labels, priority, queue, assigned_to, pinned,
                           session_id, dependencies, deps_left, deadline, max_attempts, retry, available_at, last_seq)
        SELECT n.id, n.owner, n.task_type, n.description, n.payload::jsonb, n.labels::jsonb, n.priority, n.queue,
               n.assigned_to, n.assigned_to IS NOT NULL, n.session_id, n.dependencies::jsonb, n.deps_left, n.deadline,
               n.max_attempts, n.retry::jsonb, now() + n.delay_s * interval '1 second', 1
        FROM unnest(CAST(:keys AS text[]), CAST(:ids AS text[]), CAST(:owners AS text[]), CAST(:task_types AS text[]),
                    CAST(:descriptions AS text[]), CAST(:payloads AS text[]), CAST(:labels AS text[]),
                    CAST(:priorities AS text[]), CAST(:queues AS text[]), CAST(:assigned AS text[]),
                    CAST(:sessions AS text[]), CAST(:dependencies AS text[]), CAST(:deps_left AS int[]),
                    CAST(:deadlines AS timestamptz[]), CAST(:max_attempts AS int[]), CAST(:retries AS text[]),
                    CAST(:delays AS float8[]))
             AS n (key_id, id, owner, task_type, description, payload, labels, priority, queue, assigned_to, session_id,
                   dependencies, deps_left, deadline, max_attempts, retry, delay_s)
        LEFT JOIN api_keys k ON k.id = n.key_id AND {USABLE}
        WHERE n.key_id IS NULL OR k.id IS NOT NULL
        RETURNING *
    ), e AS (
        INSERT INTO events (task_id, seq, kind, round, attempt) SELECT id, 1, 'accepted', 1, 0 FROM t
    )
    SELECT {TASK_COLUMNS} FROM t WHERE :show
    """,  # noqa: S608
)
_EDGES = text(
    """
    INSERT INTO edges (parent_id, child_id)
    SELECT * FROM unnest(CAST(:parents AS text[]), CAST(:children AS text[]))
    """
)


def submit(db: Db, owner: str, tasks: Sequence[NewTask]) -> list[str]:
    """Accept `tasks` for `owner`, all or none.

    Returns:
        Their ids, in the order given.

    Raises:
        NotFound: a parent or session does not exist, or is another owner's.
        Invalid: a task type, payload, parent or agent is not acceptable.
        Each problem's `loc` starts with the index of its task.
    """
    asked = [(owner, task) for task in tasks]
    known = look_up(db, asked)
    _check(asked, known)
    ids = [new_id() for _ in asked]
    _insert(db, ids, asked, known)
    return ids


def submit_each(db: Db, calls: Sequence[tuple[Caller, NewTask]]) -> list[Any]:
    """Accept tasks of several callers, each for itself: what is wrong with one does not matter to the others.

    A task is only written while its caller's key is good, so callers need not have been looked up in this transaction.

    Returns:
        For each its row, or why there is none: Unauthorized, or NotFound or Invalid as `submit` raises it for one task.
    """
    asked = [(caller.owner, task) for caller, task in calls]
    known = look_up(db, asked)
    refused: dict[int, Exception] = {}
    for place, one in enumerate(asked):
        try:
            _check([one], known)
        except (NotFound, Invalid) as exc:
            refused[place] = exc
    ids = {place: new_id() for place in range(len(asked)) if place not in refused}
    keys = [calls[place][0].key_id for place in ids]
    rows = _insert(db, list(ids.values()), [asked[place] for place in ids], known, keys) if ids else {}
    return [refused.get(place) or rows.get(ids[place]) or Unauthorized(BAD_KEY) for place in range(len(asked))]


def _check(asked: Sequence[Asked], known: Known) -> None:
    missing = [Problem((index, *p.loc), p.msg) for index, one in enumerate(asked) for p in missing_of(*one, known)]
    if missing:
        raise NotFound("No task was accepted: something that is referred to does not exist.", problems=missing)
    problems = [Problem((index, *p.loc), p.msg) for index, one in enumerate(asked) for p in problems_of(*one, known)]
    if problems:
        raise Invalid("No task was accepted.", problems=problems)


def _insert(
    db: Db, ids: Sequence[str], asked: Sequence[Asked], known: Known, keys: list[str] | None = None
) -> dict[str, Any]:
    """Write rows, first events and edges. With `keys`: where the key is good, and the rows are returned by id."""
    tasks = [task for _, task in asked]
    waits_for = [
        [p for p in task.dependencies if known.parents[owner, p] != TaskStatus.SUCCEEDED] for owner, task in asked
    ]
    nobody: list[str | None] = [None]
    rows = db.execute(
        _INSERT,
        {
            "show": bool(keys),
            "keys": keys or nobody * len(ids),
            "ids": list(ids),
            "owners": [owner for owner, _ in asked],
            "task_types": [t.task_type for t in tasks],
            "descriptions": [t.description for t in tasks],
            "payloads": [json.dumps(t.payload) for t in tasks],
            "labels": [json.dumps(t.labels) for t in tasks],
            "priorities": [t.priority for t in tasks],
            "queues": [queue_of(t.task_type, t.assigned_to, known) for t in tasks],
            "assigned": [t.assigned_to for t in tasks],
            "sessions": [t.session_id for t in tasks],
            "dependencies": [json.dumps(list(t.dependencies)) if t.dependencies else None for t in tasks],
            "deps_left": [len(parents) for parents in waits_for],
            "deadlines": [t.deadline for t in tasks],
            "max_attempts": [t.max_attempts for t in tasks],
            "retries": [None if t.retry is None else json.dumps(t.retry) for t in tasks],
            "delays": [t.delay_s for t in tasks],
        },
    ).all()
    written = {row.id: row for row in rows}
    connect(
        db,
        (
            (parent, child)
            for child, parents in zip(ids, waits_for, strict=True)
            for parent in parents
            if not keys or child in written
        ),
    )
    after_commit(db, "ring", publisher.ring)
    return written


def connect(db: Db, edges: Iterable[tuple[str, str]]) -> None:
    """Let children wait for parents: pairs of ids, (parent, child)."""
    if pairs := list(edges):
        db.execute(_EDGES, {"parents": [parent for parent, _ in pairs], "children": [child for _, child in pairs]})


def queue_of(task_type: str, assigned_to: str | None, known: Known) -> str:
    """The queue of a task: its type's, or that of the agent's role if workers of that role run it too."""
    kind = TASK_TYPES[task_type]
    agent = known.agents.get(assigned_to or "")
    return agent.agent_type if agent and agent.agent_type in kind.roles else kind.queue
