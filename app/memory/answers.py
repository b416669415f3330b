"""What memory answers: over HTTP, and as the results of the task types memory.*."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from app.memory.consolidate import Consolidated
from app.memory.search import Found
from app.memory.store import Stored
from app.moments import Stamp
from schema.memories import MemoryStatus, MemoryType


class Answer(BaseModel):
    """Read from a row's columns, or from what a verb returns."""

    model_config = ConfigDict(from_attributes=True)


class MemoryOut(Answer):
    """A memory."""

    id: str
    owner: str
    memory_type: MemoryType
    content: str
    metadata: dict[str, Any] | None
    importance: float | None
    agent_id: str | None
    session_id: str | None
    user_id: str | None
    status: MemoryStatus = Field(description="`superseded` and `merged` ones are kept, and found by their id alone.")
    replaced_by: str | None = Field(description="What stands in its place.")
    version: int = Field(description="Raised by each change.")
    indexed: bool = Field(description="Whether the index holds this version; searches find it either way.")
    created_at: Stamp
    updated_at: Stamp
    expires_at: Stamp | None
    uses: int = Field(description="How often searches answered with it.")
    used_at: Stamp | None


class LikenessOut(Answer):
    """A memory that says nearly the same."""

    id: str
    similarity: float = Field(description="Cosine of both vectors, at most 1.")


class StoredOut(Answer):
    """What became of a text."""

    id: str
    result: Literal["created", "duplicate_of", "updated"] = Field(
        description="`duplicate_of`: the scope had this text. `updated`: one that said nearly the same has it now."
    )
    duplicate_of: str | None = Field(description="The memory that has this text already.")
    near_duplicates: list[LikenessOut] | None = Field(
        description="Memories of the scope that say nearly the same; null: not looked for, or not to be told now."
    )

    @classmethod
    def of(cls, stored: Stored) -> Self:
        """The answer for one text."""
        likenesses = None if stored.near is None else [LikenessOut.model_validate(one) for one in stored.near]
        repeated = stored.id if stored.result == "duplicate_of" else None
        return cls(id=stored.id, result=stored.result, duplicate_of=repeated, near_duplicates=likenesses)


class HitOut(MemoryOut):
    """A memory that fits."""

    score: float
    explain: dict[str, float] | None = Field(None, description="The parts of the score, if asked for.")


class FoundOut(Answer):
    """The memories that fit best, best first."""

    items: list[HitOut]
    degraded: bool = Field(description="Whether something that should have taken part did not.")
    degraded_by: list[str] = Field(
        description="no_index, index_away, index_lost, index_behind, embedder_away or embedder_changed."
    )

    @classmethod
    def of(cls, found: Found, *, explain: bool) -> Self:
        """The answer of a search."""
        items = [
            HitOut(
                **MemoryOut.model_validate(hit.memory).__dict__,
                score=round(hit.score.total, 6),
                explain={name: round(value, 6) for name, value in hit.score.parts.items()} if explain else None,
            )
            for hit in found.hits
        ]
        return cls(items=items, degraded=found.degraded, degraded_by=found.degraded_by)


class ForgottenOut(Answer):
    """How many memories are gone."""

    forgotten: int
    more: bool = Field(description="Whether there are more: ask again.")


class GroupOut(Answer):
    """Memories that say nearly the same."""

    kept: str
    merged: list[str] = Field(description="Kept as well, as `merged`, and no longer found by searches.")
    similarity: float = Field(description="The least cosine between `kept` and another.")


class ConsolidatedOut(Answer):
    """What was merged, or would be."""

    groups: list[GroupOut]
    compared: int = Field(description="Memories that were compared with each other: indexed ones, the newest first.")
    more: bool = Field(description="Whether there are more than `limit`.")

    @classmethod
    def of(cls, done: Consolidated) -> Self:
        """The answer of a consolidation."""
        return cls.model_validate(done)
