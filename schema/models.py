"""All models in one place, for migrations and whoever needs the whole metadata."""

from schema.agents import Agent, Worker
from schema.artifacts import Artifact
from schema.base import Base
from schema.groupchats import GroupChat
from schema.keys import ApiKey, Idempotency
from schema.memories import Memory, MemoryIndex, MemoryOutbox, MemoryUse, MemoryVersion
from schema.messages import Inbox, Message
from schema.sessions import Session
from schema.tasks import Attempt, Edge, Event, Task
from schema.workflows import Workflow

__all__ = [
    "Agent",
    "ApiKey",
    "Artifact",
    "Attempt",
    "Base",
    "Edge",
    "Event",
    "GroupChat",
    "Idempotency",
    "Inbox",
    "Memory",
    "MemoryIndex",
    "MemoryOutbox",
    "MemoryUse",
    "MemoryVersion",
    "Message",
    "Session",
    "Task",
    "Worker",
    "Workflow",
]
