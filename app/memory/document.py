"""A memory as a document: all that is exported of it, and imported again."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Self

from pydantic import Field, PlainSerializer, field_validator, model_validator

from app.memory.payloads import Asked, Content, Id, Importance, Metadata, Scope
from app.moments import Moment, rfc3339
from schema.memories import MemoryStatus, MemoryType

#: What the address of a memory cannot end with, for something else is there.
_NO_IDS = ("export", "index", ".", "..")

_Time = Annotated[Moment, PlainSerializer(rfc3339, return_type=str)]
#: With room for as many again.
_MOST = 10**9
_Number = Annotated[int, Field(ge=1, le=_MOST)]


class _State(Asked):
    """What a memory was, or is."""

    memory_type: MemoryType
    content: Content
    metadata: Metadata | None = None
    importance: Importance | None = 0.5
    expires_at: _Time | None = None
    status: MemoryStatus = MemoryStatus.ACTIVE
    replaced_by: Id | None = Field(None, description="The memory in its place, unless it is active.")


class MemoryVersionDocument(_State):
    """What a memory was before a change."""

    version: _Number
    updated_at: _Time = Field(description="When this version began.")
    replaced_at: _Time = Field(description="When it ended.")


class _Named(Asked):
    # Of all bases the last one's fields come first.
    id: Annotated[str, Field(max_length=255, pattern=r"^[A-Za-z0-9_.:@-]+$")] | None = None

    @field_validator("id")
    @classmethod
    def _has_an_address(cls, given: str | None) -> str | None:
        if given in _NO_IDS:
            raise ValueError(f"cannot be {given!r}")
        return given


class MemoryDocument(_State, Scope, _Named):
    """A memory, whole: with its links, its history and its uses. Type and content are enough to import one."""

    version: _Number = 1
    created_at: _Time | None = None
    updated_at: _Time | None = None
    uses: Annotated[int, Field(ge=0, le=_MOST)] = Field(0, description="How often searches answered with it.")
    used_at: _Time | None = Field(None, description="When last.")
    history: list[MemoryVersionDocument] = Field(default_factory=list, description="Newest first.")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.replaced_by is not None and self.status == MemoryStatus.ACTIVE:
            raise ValueError("replaced_by: nothing is in the place of an active memory")
        if self.replaced_by is not None and self.replaced_by == self.id:
            raise ValueError("replaced_by: it cannot be in its own place")
        versions = [one.version for one in self.history]
        if len(set(versions)) < len(versions) or max(versions, default=0) >= self.version:
            raise ValueError("history: each version comes once, and before that of the memory")
        return self

    @classmethod
    def of(cls, row: Any) -> MemoryDocument:
        """The document of a row of the table, whatever is in it."""
        history = [MemoryVersionDocument.model_construct(**_typed(_timed(version))) for version in row.history]
        return cls.model_construct(**_typed(row._asdict()) | {"history": history})


def _timed(version: dict[str, Any]) -> dict[str, Any]:
    """A version with its times, which JSON has as text."""
    times = {name: version[name] for name in ("expires_at", "updated_at", "replaced_at")}
    return version | {name: text and datetime.fromisoformat(text) for name, text in times.items()}


def _typed(state: dict[str, Any]) -> dict[str, Any]:
    return state | {"memory_type": MemoryType(state["memory_type"]), "status": MemoryStatus(state["status"])}
