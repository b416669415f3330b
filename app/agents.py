"""Agents: the members of the group, and the worker processes that are instances of them."""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy import func, select, text
from sqlalchemy.orm import Session

from app import cursors
from app.db import Db
from app.errors import Conflict, NotFound
from app.queues import Queue
from app.settings import settings
from schema.agents import Agent, Worker
from schema.base import new_id

_REGISTER_AGENT = text(
    """
    INSERT INTO agents (id, name, role, goal, agent_type, status) VALUES (:id, :id, :role, :goal, :role, 'active')
    ON CONFLICT (id) DO UPDATE SET status = 'active', updated_at = now()
    """
)
_REGISTER_WORKER = text(
    """
    INSERT INTO workers (name, agent_id, role, info) VALUES (:name, :agent_id, :role, CAST(:info AS jsonb))
    ON CONFLICT (name) DO UPDATE SET agent_id = excluded.agent_id, role = excluded.role, info = excluded.info,
                                     heartbeat_at = now(),
        -- Another process under the same name has just begun.
        started_at = CASE WHEN workers.info->'pid' = excluded.info->'pid' THEN workers.started_at ELSE now() END
    """
)
# An agent of a role is active while one of its workers sends heartbeats; the user's own agents have none. Agents are
# locked before workers, as in a heartbeat.
_RETIRE = text(
    """
    UPDATE agents a SET status = 'inactive', updated_at = now()
    WHERE a.status = 'active' AND a.agent_type = ANY(:roles)
      AND NOT EXISTS (SELECT FROM workers w WHERE w.agent_id = a.id
                      AND w.heartbeat_at >= now() - :lease_s * interval '1 second'
                      AND NOT (w.name = :leaving AND w.info->'pid' = to_jsonb(CAST(:pid AS int))))
    RETURNING a.id
    """
)
_DROP = text(
    """
    DELETE FROM workers WHERE heartbeat_at < now() - :lease_s * interval '1 second'
        OR name = :leaving AND info->'pid' = to_jsonb(CAST(:pid AS int))
    """
)

_REFERRED = text(
    """
    SELECT EXISTS (SELECT FROM tasks WHERE assigned_to = :id) OR EXISTS (SELECT FROM workers WHERE agent_id = :id)
        OR EXISTS (SELECT FROM messages WHERE source_agent_id = :id)
        OR EXISTS (SELECT FROM messages WHERE destination_agent_id = :id)
        OR EXISTS (SELECT FROM memory WHERE agent_id = :id)
        OR EXISTS (SELECT FROM groupchats WHERE agents @> to_jsonb(CAST(:id AS text)))
    """
)
_INSTANCES = text(
    """
    SELECT info->>'instance' FROM workers
    WHERE info ? 'instance' AND heartbeat_at >= now() - :lease_s * interval '1 second'
    """
)

_GOALS = {
    Queue.GATEWAY: "Admit tasks and deliver messages.",
    Queue.COORDINATOR: "Carry workflows from step to step.",
    Queue.EXECUTION: "Run code in sandboxes.",
    Queue.MEMORY: "Remember, find and forget.",
}


def heartbeat(db: Db, *, worker: str, agent_id: str, role: str, info: dict[str, Any]) -> None:
    """Register a worker and its agent, or say that both still live. `info` is for people."""
    # Two statements: the worker's row refers to the agent's.
    db.execute(_REGISTER_AGENT, {"id": agent_id, "role": role, "goal": _GOALS[Queue(role)]})
    params = {"name": worker, "agent_id": agent_id, "role": role, "info": json.dumps(info)}
    db.execute(_REGISTER_WORKER, params)


def leave(db: Db, worker: str, pid: int) -> None:
    """Take a worker that ends in order off the list; its agent is inactive if it was the last.

    Another process that has taken its name since stays.
    """
    _sweep(db, worker, pid)


def sweep(db: Db) -> list[str]:
    """Drop workers without a heartbeat for `lease_s`; return the agents that are inactive from now on."""
    return _sweep(db, "", 0)


def _sweep(db: Db, leaving: str, pid: int) -> list[str]:
    params = {"lease_s": settings().lease_s, "roles": list(Queue), "leaving": leaving, "pid": pid}
    retired = list(db.execute(_RETIRE, params).scalars())
    db.execute(_DROP, params)
    return retired


def create(db: Session, **values: Any) -> Agent:
    """Add an agent of the user's own, active. `values` are its columns."""
    agent = Agent(id=new_id(), status="active", **values)
    db.add(agent)
    db.flush()
    db.refresh(agent)
    return agent


def get(db: Session, agent_id: str) -> Agent:
    """The agent. Raises NotFound."""
    agent = db.get(Agent, agent_id)
    if agent is None:
        raise NotFound(f"No agent {agent_id}.")
    return agent


def update(db: Session, agent_id: str, **values: Any) -> Agent:
    """Change columns of an agent.

    Raises:
        NotFound: there is none.
        Conflict: `status` of an agent of a role, which follows its workers' heartbeats.
    """
    agent = get(db, agent_id)
    if "status" in values and agent.agent_type in set(Queue):
        raise Conflict("The status of this agent follows its workers' heartbeats.")
    for column, value in values.items():
        setattr(agent, column, value)
    agent.updated_at = func.now()
    db.flush()
    db.refresh(agent)
    return agent


def delete(db: Session, agent_id: str) -> None:
    """Remove an agent that nothing refers to. Raises NotFound, or Conflict if something does."""
    # Whoever is about to refer to it holds its row, or waits for us.
    agent = db.get(Agent, agent_id, with_for_update=True)
    if agent is None:
        raise NotFound(f"No agent {agent_id}.")
    if db.execute(_REFERRED, {"id": agent_id}).scalar_one():
        raise Conflict(
            "Tasks, messages, group chats, memories or workers refer to this agent; set it inactive instead."
        )
    db.delete(agent)


def find(
    db: Session, *, agent_type: str | None, status: str | None, cursor: str | None, limit: int
) -> tuple[list[Agent], str | None]:
    """A page of agents, newest first. Raises Invalid for a foreign cursor."""
    query = select(Agent)
    if agent_type is not None:
        query = query.where(Agent.agent_type == agent_type)
    if status is not None:
        query = query.where(Agent.status == status)
    rows = list(db.scalars(cursors.after(query, Agent.created_at, Agent.id, cursor, limit)))
    return cursors.page(rows, limit)


def workers(db: Session) -> list[Worker]:
    """The worker processes with a heartbeat, by name."""
    return list(db.scalars(select(Worker).order_by(Worker.name)))


def instances(db: Db) -> set[str]:
    """The worker processes with a heartbeat, by the word that each goes by on its containers."""
    return set(db.execute(_INSTANCES, {"lease_s": settings().lease_s}).scalars())


_QUEUES = text(
    """
    SELECT q.queue, count(t.id) FILTER (WHERE t.status = 'pending') AS pending,
           count(t.id) FILTER (WHERE t.status = 'queued') AS queued,
           count(t.id) FILTER (WHERE t.status = 'running') AS running,
           extract(epoch FROM now() - min(t.updated_at) FILTER (WHERE t.status = 'queued'))::float
               AS oldest_queued_s,
           (SELECT count(*) FROM workers w WHERE w.role = q.queue) AS workers
    FROM unnest(CAST(:queues AS text[])) AS q (queue)
    LEFT JOIN tasks t ON t.queue = q.queue AND t.status IN ('pending', 'queued', 'running')
    GROUP BY q.queue ORDER BY q.queue
    """
)


def queues(db: Session) -> list[dict[str, Any]]:
    """The four queues: pending, queued, running tasks, age of the oldest queued one in seconds, workers."""
    return [dict(row._mapping) for row in db.execute(_QUEUES, {"queues": list(Queue)})]
