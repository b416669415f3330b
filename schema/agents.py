"""Agent: a named member of the group. Worker: one process that is an instance of an agent."""

from __future__ import annotations

from typing import Any

from sqlalchemy import CheckConstraint, ForeignKey, Index, Text, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from schema.base import Base, Id, Json, Name, Now, Word


class Agent(Base):
    """A named member of the group: gateway, coordinator, execution, memory, or one of the user's own.

    Agents of the four roles are active while one of their workers sends heartbeats; the user's own are
    switched by their owner.
    """

    __tablename__ = "agents"

    id: Mapped[Id] = mapped_column(primary_key=True)
    name: Mapped[Name]
    role: Mapped[Name]
    goal: Mapped[str] = mapped_column(Text)
    backstory: Mapped[str | None] = mapped_column(Text)
    agent_type: Mapped[Name]
    status: Mapped[Word] = mapped_column(server_default="inactive")
    #: Its policy: {"task_types": [names], "max_running": n}, which admission applies, and how its programs run,
    #: {"sandbox": {"images": {task type: image}, "runtime": name, "limits": {name: most}}}; all optional.
    configuration: Mapped[dict[str, Any] | None] = mapped_column(JSONB)
    created_at: Mapped[Now]
    updated_at: Mapped[Now]

    __table_args__ = (
        CheckConstraint("status IN ('active', 'inactive')", name="status"),
        Index("agents_idx_agent_type", "agent_type"),
        Index("agents_idx_status", "status"),
    )


class Worker(Base):
    """A worker process and its last heartbeat; the row goes when the process leaves in order."""

    __tablename__ = "workers"

    #: Celery's node name, for example execution@host.
    name: Mapped[Name] = mapped_column(primary_key=True)
    agent_id: Mapped[Id] = mapped_column(ForeignKey("agents.id", ondelete="CASCADE"))
    role: Mapped[Word]
    #: {"host", "pid", "slots", "health_port", "sandbox"}: for people and for `clawq status`.
    info: Mapped[Json] = mapped_column(server_default=text("'{}'"))
    started_at: Mapped[Now]
    heartbeat_at: Mapped[Now]

    __table_args__ = (Index("workers_idx_agent_id", "agent_id"),)
