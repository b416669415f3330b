"""Explain: what a task waits for, in words and ids."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import select, text
from sqlalchemy.orm import Session

from app.settings import settings
from app.tasks.types import TASK_TYPES
from schema.agents import Agent
from schema.tasks import Carrier, Task, TaskStatus
from schema.workflows import WorkflowStatus


@dataclass(frozen=True)
class Reason:
    """One thing a task waits for."""

    #: parent, time, workflow, agent, limit, room, admission, worker, lease, cancel.
    kind: str
    detail: str
    refs: dict[str, Any] = field(default_factory=dict)


_PARENTS = text(
    """
    SELECT p.id, p.key, p.status FROM edges e JOIN tasks p ON p.id = e.parent_id
    WHERE e.child_id = :id ORDER BY p.id LIMIT 100
    """
)
# What is in flight is counted as app/workflows/advance.py does.
_WORKFLOW = text(
    """
    SELECT status, max_running, cancel_requested_at,
           (SELECT count(*) FROM tasks WHERE workflow_id = w.id AND status IN ('pending', 'queued', 'running')
            AND (status <> 'pending' OR deps_left = 0 AND carrier = 'gateway')) AS in_flight
    FROM workflows w WHERE id = :id
    """
)
_AGENTS = text("SELECT * FROM agents WHERE agent_type = :role AND status = 'active' ORDER BY id")
_WORKERS = text(
    """
    SELECT count(*) AS alive, count(*) FILTER (WHERE info->'consuming' = 'false') AS idle
    FROM workers WHERE role = :queue AND heartbeat_at > now() - :lease_s * interval '1 second'
    """
)
_IN_FLIGHT = text("SELECT count(*) FROM tasks WHERE assigned_to = :agent AND status IN ('queued', 'running')")
_QUEUED = text("SELECT count(*) FROM tasks WHERE queue = :queue AND status = 'queued'")
_NOW = text("SELECT now()")


def explain(db: Session, task: Task) -> list[Reason]:
    """Everything that keeps `task` from running or ending, the nearest cause first. Empty once it has ended."""
    if task.status == TaskStatus.PENDING:
        return _pending(db, task)
    if task.status == TaskStatus.QUEUED:
        return _queued(db, task)
    if task.status == TaskStatus.RUNNING:
        return _running(task)
    return []


def _pending(db: Session, task: Task) -> list[Reason]:
    if task.task_type not in TASK_TYPES:
        return [Reason("worker", f"Nothing of this version runs {task.task_type}: start a version that does.")]
    reasons = [
        Reason("parent", f"Parent {row.key or row.id} is {row.status}.", {"task_id": row.id, "status": row.status})
        for row in db.execute(_PARENTS, {"id": task.id})
    ]
    now = db.execute(_NOW).scalar_one()
    if task.available_at > now:
        why = f"after failure {task.failures + task.infra_failures}" if task.attempt else "as asked"
        reasons.append(Reason("time", f"Not before {task.available_at.isoformat()}, {why}."))
    if task.carrier != Carrier.GATEWAY:
        return _in_workflow(db, task, reasons, now)
    reasons += [*_agent(db, task), *_room(db, task), *_no_worker(db, "gateway")]
    return reasons or [Reason("admission", "The gateway admits it within about a second.")]


def _in_workflow(db: Session, task: Task, reasons: list[Reason], now: datetime) -> list[Reason]:
    """The same for a task that its workflow has not let go; `reasons` are those that any task may have."""
    refs = {"workflow_id": task.workflow_id}
    workflow = db.execute(_WORKFLOW, {"id": task.workflow_id}).one()
    is_late = task.deps_left == 0 and task.next_dispatch_at is not None and task.next_dispatch_at <= now
    is_brought = task.carrier == Carrier.CANVAS and not is_late
    ready = not reasons
    if workflow.cancel_requested_at:
        reasons.append(Reason("workflow", "Its workflow is being cancelled.", refs))
    elif workflow.status == WorkflowStatus.PAUSED:
        reasons.append(Reason("workflow", "Its workflow is paused: nothing of it starts until it is resumed.", refs))
    elif ready and not is_brought and workflow.max_running and workflow.in_flight >= workflow.max_running:
        reasons.append(Reason("workflow", f"Its workflow has {workflow.in_flight} tasks in flight, its limit.", refs))
    # One with `map` is not run itself: the coordinator makes its items, and collects them.
    if not (task.rules and "map" in task.rules):
        reasons += _agent(db, task)
        reasons += _no_worker(db, task.queue) if is_brought else [*_room(db, task), *_no_worker(db, "gateway")]
    if not is_brought:
        reasons += _no_worker(db, "coordinator")
    return reasons or [Reason("workflow", _who_brings_it(task, is_brought), refs)]


def _who_brings_it(task: Task, is_brought: bool) -> str:
    if is_brought:
        until = task.next_dispatch_at.isoformat() if task.next_dispatch_at else "?"
        return f"A chain or chord brings it; if it has not by {until}, the coordinator does."
    late = ", as no chain or chord has brought it" if task.carrier == Carrier.CANVAS else ""
    return f"The coordinator lets it go within about a second{late}."


def _room(db: Session, task: Task) -> list[Reason]:
    queued = db.execute(_QUEUED, {"queue": task.queue}).scalar_one()
    if queued < settings().window:
        return []
    refs = {"queue": task.queue}
    return [Reason("room", f"Queue {task.queue} holds {queued} unclaimed tasks, its limit.", refs)]


def _agent(db: Session, task: Task) -> list[Reason]:
    team = db.scalars(select(Agent).from_statement(_AGENTS), {"role": task.queue}).all()
    nobody = Reason("worker", f"No {task.queue} agent is active: start a worker for queue {task.queue}.")
    if task.pinned:
        return _refusal(db, task, db.get_one(Agent, task.assigned_to)) or ([] if team else [nobody])
    refusals = [_refusal(db, task, agent) for agent in team] or [[nobody]]
    return [reason for refusal in refusals for reason in refusal] if all(refusals) else []


def _refusal(db: Session, task: Task, agent: Agent) -> list[Reason]:
    """Why admission does not give the task to this agent; empty if it does."""
    refs = {"agent_id": agent.id}
    if agent.status != "active":
        return [Reason("agent", f"Agent {agent.id} is {agent.status}.", refs)]
    policy = agent.configuration or {}
    if (types := policy.get("task_types")) is not None and task.task_type not in types:
        return [Reason("agent", f"Agent {agent.id} does not take {task.task_type}.", refs)]
    limit = policy.get("max_running")
    in_flight = db.execute(_IN_FLIGHT, {"agent": agent.id}).scalar_one()
    if limit is not None and in_flight >= limit:
        return [Reason("limit", f"Agent {agent.id} has {in_flight} tasks in flight, its limit.", refs)]
    return []


def _queued(db: Session, task: Task) -> list[Reason]:
    return _no_worker(db, task.queue) or [
        Reason("worker", f"A worker of queue {task.queue} takes it when a slot is free.", {"queue": task.queue})
    ]


def _no_worker(db: Session, queue: str) -> list[Reason]:
    workers = db.execute(_WORKERS, {"queue": queue, "lease_s": settings().lease_s}).one()
    if not workers.alive:
        return [Reason("worker", f"No worker serves queue {queue}.", {"queue": queue})]
    if workers.idle == workers.alive:
        how = f"`celery control add_consumer {queue}` lets them, unless they are leaving or have lost Redis"
        return [Reason("worker", f"The workers of queue {queue} take no tasks: {how}.", {"queue": queue})]
    return []


def _running(task: Task) -> list[Reason]:
    refs = {"worker": task.lease_owner, "attempt": task.attempt}
    until = task.lease_until.isoformat() if task.lease_until else "?"
    reasons = [Reason("lease", f"Worker {task.lease_owner} holds it until {until}, renewed as it runs.", refs)]
    if task.cancel_requested_at:
        reasons.append(Reason("cancel", "It was asked to stop; cancelled once its program is dead.", refs))
    return reasons
