"""Models of agents, queues and workers."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from api.payloads.common import In, Name, Out, Page, PageQuery, Words
from app.moments import Stamp
from app.programs import CodeLimits, ImageName, Language, RuntimeName
from app.queues import Queue
from app.tasks.types import TASK_TYPES

AgentStatus = Literal["active", "inactive"]


class SandboxIn(In):
    """How an agent's programs run, where that differs from the settings."""

    images: dict[Language, ImageName] | None = Field(None, description="Container image by task type.")
    runtime: RuntimeName | None = Field(None, description="OCI runtime of the engine, for all of its programs.")
    limits: CodeLimits | None = Field(None, description="The most that its programs get, whatever their tasks ask for.")


class ConfigurationIn(In):
    """The policy of an agent. Leave a field out for no limit, or for what the settings say."""

    task_types: Annotated[list[str], Field(max_length=100)] | None = Field(None, description="Only these.")
    max_running: Annotated[int, Field(ge=0, le=1_000_000)] | None = Field(
        None, description="Most tasks queued for it or running at once."
    )
    sandbox: SandboxIn | None = Field(None, description="How its programs run.")

    @field_validator("task_types")
    @classmethod
    def _known(cls, names: list[str] | None) -> list[str] | None:
        unknown = sorted(set(names or ()) - set(TASK_TYPES))
        if unknown:
            raise ValueError(f"unknown: {', '.join(unknown)[:200]}; known are {', '.join(sorted(TASK_TYPES))}")
        return names


class AgentIn(In):
    """An agent of your own."""

    name: Name
    role: Name = Field(description="What it is in the group, for people.")
    goal: Annotated[str, Field(min_length=1, max_length=10_000)]
    agent_type: Name = Field(description=f"Any word but {', '.join(Queue)}, whose agents register themselves.")
    backstory: Words | None = None
    configuration: ConfigurationIn | None = None

    @field_validator("agent_type")
    @classmethod
    def _not_a_role(cls, agent_type: str) -> str:
        if agent_type in set(Queue):
            raise ValueError(f"agents of type {agent_type} register themselves when their workers start")
        return agent_type


class AgentPatchIn(In):
    """What to change of an agent; what is left out stays."""

    name: Name = ""
    role: Name = ""
    goal: Annotated[str, Field(min_length=1, max_length=10_000)] = ""
    backstory: Words | None = None
    configuration: ConfigurationIn | None = None
    status: AgentStatus = Field("active", description="Of your own agents only.")


class AgentListQuery(PageQuery):
    """Which agents to list."""

    agent_type: Name | None = None
    status: AgentStatus | None = None


class AgentOut(Out):
    """A member of the group."""

    id: str
    name: str
    role: str
    goal: str
    backstory: str | None
    agent_type: str
    status: AgentStatus = Field(description="Of the four roles: active while a worker of it lives.")
    configuration: dict[str, Any] | None
    created_at: Stamp
    updated_at: Stamp


class AgentPage(Page[AgentOut]):
    """Agents, the newest first."""


class QueueOut(Out):
    """A queue."""

    queue: Queue
    pending: int = Field(description="Accepted, not yet admitted.")
    queued: int = Field(description="Admitted, waiting for a worker.")
    running: int
    oldest_queued_s: float | None = Field(description="Seconds the oldest queued task has waited for a worker.")
    workers: int


class QueuePage(Page[QueueOut]):
    """All queues."""


class WorkerOut(Out):
    """A worker process."""

    name: str
    agent_id: str
    role: str
    info: dict[str, Any]
    started_at: Stamp
    heartbeat_at: Stamp


class WorkerPage(Page[WorkerOut]):
    """All worker processes with a heartbeat."""
