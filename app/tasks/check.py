"""Check: whether a task that is asked for can be accepted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import text

from app.db import Db
from app.errors import Invalid, Problem
from app.tasks.types import TASK_TYPES, check_payload
from schema.tasks import Priority, TaskStatus


@dataclass(frozen=True, kw_only=True)
class NewTask:
    """A task as it is asked for."""

    task_type: str
    payload: dict[str, Any]
    description: str = ""
    priority: str = Priority.NORMAL
    deadline: datetime | None = None
    #: Ids of the owner's tasks that must succeed first.
    dependencies: Sequence[str] = ()
    assigned_to: str | None = None
    max_attempts: int = 1
    #: The waits between tries: `delay_s`, `factor`, `max_delay_s`. None: as usual (retry.py).
    retry: dict[str, float] | None = None
    #: Seconds before which it is not started.
    delay_s: float = 0
    session_id: str | None = None
    labels: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Known:
    """What tasks refer to, as far as it exists and is their owner's."""

    #: (owner, parent id) → status.
    parents: dict[tuple[str, str], str]
    #: (owner, session id) → status.
    sessions: dict[tuple[str, str], str]
    #: Parent id → how many tasks wait for it, those that are asked for now included.
    children: Mapping[str, int]
    #: Agent id → row with agent_type and configuration.
    agents: dict[str, Any]


#: Tasks that may wait for one: the end of a task also ends or releases all of them, in one statement.
MAX_CHILDREN = 10_000

#: A task and who asks for it.
Asked = tuple[str, NewTask]

# FOR SHARE: a parent cannot end between our look at it and our commit, so no release is missed.
_PARENTS = text(
    """
    SELECT owner, id, status FROM tasks
    WHERE (owner, id) IN (SELECT * FROM unnest(CAST(:owners AS text[]), CAST(:ids AS text[]))) ORDER BY id FOR SHARE
    """
)
_CHILDREN = text("SELECT parent_id, count(*) AS n FROM edges WHERE parent_id = ANY(:ids) GROUP BY parent_id")
_SESSIONS = text(
    """
    SELECT owner, id, status FROM sessions
    WHERE (owner, id) IN (SELECT * FROM unnest(CAST(:owners AS text[]), CAST(:ids AS text[])))
    """
)
_AGENTS = text("SELECT id, agent_type, configuration FROM agents WHERE id = ANY(:ids)")


def look_up(db: Db, asked: Sequence[Asked]) -> Known:
    """Read what tasks refer to, one query a noun, and hold the parents until commit."""
    parents = _statuses(db, _PARENTS, {(owner, p) for owner, task in asked for p in task.dependencies})
    return Known(
        parents=parents,
        children=_children(db, asked) if parents else {},
        sessions=_statuses(db, _SESSIONS, {(owner, task.session_id) for owner, task in asked if task.session_id}),
        agents=_agents(db, {task.assigned_to for _, task in asked if task.assigned_to}),
    )


def missing_of(owner: str, task: NewTask, known: Known) -> list[Problem]:
    """What `task` refers to and its owner does not have."""
    missing = [
        Problem(("dependencies", position), f"no task {parent}")
        for position, parent in enumerate(task.dependencies)
        if (owner, parent) not in known.parents
    ]
    if task.session_id and (owner, task.session_id) not in known.sessions:
        missing.append(Problem(("session_id",), f"no session {task.session_id}"))
    return missing


def problems_of(owner: str, task: NewTask, known: Known, *, payload: bool = True) -> list[Problem]:
    """Everything that keeps `task`, of which nothing is missing, from being accepted.

    Without `payload` that is not looked at, but for its type's being known.
    """
    found = _payload(task) if payload else _task_type(task)
    return [*found, *_dependencies(owner, task, known), *_session(owner, task, known), *_agent(task, known)]


def _statuses(db: Db, query: Any, wanted: set[tuple[str, str]]) -> dict[tuple[str, str], str]:
    if not wanted:
        return {}
    params = {"owners": [owner for owner, _ in wanted], "ids": [id_ for _, id_ in wanted]}
    return {(row.owner, row.id): row.status for row in db.execute(query, params)}


def _children(db: Db, asked: Sequence[Asked]) -> Counter[str]:
    more = Counter(parent for _, task in asked for parent in task.dependencies)
    return more + Counter({row.parent_id: row.n for row in db.execute(_CHILDREN, {"ids": list(more)})})


def _agents(db: Db, wanted: set[str]) -> dict[str, Any]:
    return {row.id: row for row in db.execute(_AGENTS, {"ids": list(wanted)})} if wanted else {}


def _payload(task: NewTask) -> Sequence[Problem]:
    try:
        check_payload(task.task_type, task.payload)
    except Invalid as exc:
        return exc.problems
    return ()


def _task_type(task: NewTask) -> Sequence[Problem]:
    return () if task.task_type in TASK_TYPES else _payload(task)


def _dependencies(owner: str, task: NewTask, known: Known) -> list[Problem]:
    found = []
    for position, parent in enumerate(task.dependencies):
        status = known.parents[owner, parent]
        if status in (TaskStatus.FAILED, TaskStatus.CANCELLED, TaskStatus.SKIPPED):
            found.append(Problem(("dependencies", position), f"task {parent} is {status}: it can never be met"))
        if status != TaskStatus.SUCCEEDED and known.children[parent] > MAX_CHILDREN:
            found.append(Problem(("dependencies", position), f"at most {MAX_CHILDREN} tasks can wait for {parent}"))
    if len(set(task.dependencies)) != len(task.dependencies):
        found.append(Problem(("dependencies",), "an id occurs twice"))
    return found


def _session(owner: str, task: NewTask, known: Known) -> list[Problem]:
    status = known.sessions[owner, task.session_id] if task.session_id else "active"
    return [] if status == "active" else [Problem(("session_id",), f"session {task.session_id} is {status}")]


def _agent(task: NewTask, known: Known) -> list[Problem]:
    if not task.assigned_to:
        return []
    agent = known.agents.get(task.assigned_to)
    if agent is None:
        return [Problem(("assigned_to",), f"no agent {task.assigned_to}")]
    allowed = (agent.configuration or {}).get("task_types")
    if allowed is not None and task.task_type not in allowed:
        return [Problem(("assigned_to",), f"agent {agent.id} takes only {', '.join(allowed) or 'nothing'}")]
    return []
