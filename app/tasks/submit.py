"""Submit: write tasks and their first events, and ring the gateway after commit."""

from __future__ import annotations

import json
from collections.abc import Sequence

from sqlalchemy import text
from sqlalchemy.orm import Session

from app import publisher
from app.db import after_commit
from app.errors import Invalid, NotFound, Problem
from app.tasks.check import Known, NewTask, look_up, missing_of, problems_of
from app.tasks.types import TASK_TYPES
from schema.base import new_id
from schema.tasks import TaskStatus

_INSERT = text(
    """
    WITH t AS (
        INSERT INTO tasks (id, owner, task_type, description, payload, labels, priority, queue, assigned_to, pinned,
                           session_id, dependencies, deps_left, deadline, max_attempts, available_at, last_seq)
        SELECT n.id, :owner, n.task_type, n.description, n.payload::jsonb, n.labels::jsonb, n.priority, n.queue,
               n.assigned_to, n.assigned_to IS NOT NULL, n.session_id, n.dependencies::jsonb, n.deps_left, n.deadline,
               n.max_attempts, now() + n.delay_s * interval '1 second', 1
        FROM unnest(CAST(:ids AS text[]), CAST(:task_types AS text[]), CAST(:descriptions AS text[]),
                    CAST(:payloads AS text[]), CAST(:labels AS text[]), CAST(:priorities AS text[]),
                    CAST(:queues AS text[]), CAST(:assigned AS text[]), CAST(:sessions AS text[]),
                    CAST(:dependencies AS text[]), CAST(:deps_left AS int[]), CAST(:deadlines AS timestamptz[]),
                    CAST(:max_attempts AS int[]), CAST(:delays AS float8[]))
             AS n (id, task_type, description, payload, labels, priority, queue, assigned_to, session_id,
                   dependencies, deps_left, deadline, max_attempts, delay_s)
        RETURNING id
    )
    INSERT INTO events (task_id, seq, kind, round, attempt) SELECT id, 1, 'accepted', 1, 0 FROM t
    """
)
_EDGES = text(
    """
    INSERT INTO edges (parent_id, child_id)
    SELECT * FROM unnest(CAST(:parents AS text[]), CAST(:children AS text[]))
    """
)


def submit(db: Session, owner: str, tasks: Sequence[NewTask]) -> list[str]:
    """Accept `tasks` for `owner`, all or none.

    Returns:
        Their ids, in the order given.

    Raises:
        NotFound: a parent or session does not exist, or is another owner's.
        Invalid: a task type, payload, parent or agent is not acceptable.
        Each problem's `loc` starts with the index of its task.
    """
    known = look_up(db, owner, tasks)
    missing = [Problem((index, *p.loc), p.msg) for index, task in enumerate(tasks) for p in missing_of(task, known)]
    if missing:
        raise NotFound("No task was accepted: something that is referred to does not exist.", problems=missing)
    problems = [Problem((index, *p.loc), p.msg) for index, task in enumerate(tasks) for p in problems_of(task, known)]
    if problems:
        raise Invalid("No task was accepted.", problems=problems)
    ids = [new_id() for _ in tasks]
    _insert(db, owner, ids, tasks, known)
    after_commit(db, "ring", publisher.ring)
    return ids


def _insert(db: Session, owner: str, ids: list[str], tasks: Sequence[NewTask], known: Known) -> None:
    waits_for = [[p for p in t.dependencies if known.parents[p] != TaskStatus.SUCCEEDED] for t in tasks]
    db.execute(
        _INSERT,
        {
            "owner": owner,
            "ids": ids,
            "task_types": [t.task_type for t in tasks],
            "descriptions": [t.description for t in tasks],
            "payloads": [json.dumps(t.payload) for t in tasks],
            "labels": [json.dumps(t.labels) for t in tasks],
            "priorities": [t.priority for t in tasks],
            "queues": [_queue(t, known) for t in tasks],
            "assigned": [t.assigned_to for t in tasks],
            "sessions": [t.session_id for t in tasks],
            "dependencies": [json.dumps(list(t.dependencies)) if t.dependencies else None for t in tasks],
            "deps_left": [len(parents) for parents in waits_for],
            "deadlines": [t.deadline for t in tasks],
            "max_attempts": [t.max_attempts for t in tasks],
            "delays": [t.delay_s for t in tasks],
        },
    )
    edges = [(parent, child) for child, parents in zip(ids, waits_for, strict=True) for parent in parents]
    if edges:
        db.execute(_EDGES, {"parents": [p for p, _ in edges], "children": [c for _, c in edges]})


def _queue(task: NewTask, known: Known) -> str:
    task_type = TASK_TYPES[task.task_type]
    agent = known.agents.get(task.assigned_to or "")
    return agent.agent_type if agent and agent.agent_type in task_type.roles else task_type.queue
