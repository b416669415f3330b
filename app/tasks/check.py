"""Check: whether a task that is asked for can be accepted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session

from app.errors import Invalid, Problem
from app.tasks.types import check_payload
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
    #: Seconds before which it is not started.
    delay_s: float = 0
    session_id: str | None = None
    labels: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Known:
    """What the tasks of one request refer to, as far as it exists."""

    #: Parent id → status.
    parents: dict[str, str]
    #: Session id → status.
    sessions: dict[str, str]
    #: Agent id → row with agent_type and configuration.
    agents: dict[str, Any]


# FOR SHARE: a parent cannot end between our look at it and our commit, so no release is missed.
_PARENTS = text("SELECT id, status FROM tasks WHERE id = ANY(:ids) AND owner = :owner ORDER BY id FOR SHARE")
_SESSIONS = text("SELECT id, status FROM sessions WHERE id = ANY(:ids) AND owner = :owner")
_AGENTS = text("SELECT id, agent_type, configuration FROM agents WHERE id = ANY(:ids)")


def look_up(db: Session, owner: str, tasks: Sequence[NewTask]) -> Known:
    """Read what `tasks` refer to, one query a noun, and hold the parents until commit."""
    return Known(
        parents={row.id: row.status for row in _rows(db, _PARENTS, {p for t in tasks for p in t.dependencies}, owner)},
        sessions={row.id: row.status for row in _rows(db, _SESSIONS, {t.session_id for t in tasks}, owner)},
        agents={row.id: row for row in _rows(db, _AGENTS, {t.assigned_to for t in tasks}, owner)},
    )


def missing_of(task: NewTask, known: Known) -> list[Problem]:
    """What `task` refers to and its owner does not have."""
    missing = [
        Problem(("dependencies", position), f"no task {parent}")
        for position, parent in enumerate(task.dependencies)
        if parent not in known.parents
    ]
    if task.session_id and task.session_id not in known.sessions:
        missing.append(Problem(("session_id",), f"no session {task.session_id}"))
    return missing


def problems_of(task: NewTask, known: Known) -> list[Problem]:
    """Everything that keeps `task`, of which nothing is missing, from being accepted."""
    return [*_payload(task), *_dependencies(task, known), *_session(task, known), *_agent(task, known)]


def _rows(db: Session, query: Any, ids: set[Any], owner: str) -> Sequence[Any]:
    wanted = sorted(i for i in ids if i)
    return db.execute(query, {"ids": wanted, "owner": owner}).all() if wanted else []


def _payload(task: NewTask) -> Sequence[Problem]:
    try:
        check_payload(task.task_type, task.payload)
    except Invalid as exc:
        return exc.problems
    return ()


def _dependencies(task: NewTask, known: Known) -> list[Problem]:
    found = []
    for position, parent in enumerate(task.dependencies):
        status = known.parents[parent]
        if status in (TaskStatus.FAILED, TaskStatus.CANCELLED, TaskStatus.SKIPPED):
            found.append(Problem(("dependencies", position), f"task {parent} is {status}: it can never be met"))
    if len(set(task.dependencies)) != len(task.dependencies):
        found.append(Problem(("dependencies",), "an id occurs twice"))
    return found


def _session(task: NewTask, known: Known) -> list[Problem]:
    if task.session_id and known.sessions[task.session_id] != "active":
        return [Problem(("session_id",), f"session {task.session_id} is {known.sessions[task.session_id]}")]
    return []


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
