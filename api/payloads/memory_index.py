"""Models of the index of memories."""

from __future__ import annotations

from pydantic import Field

from api.payloads.common import In, Out
from app.moments import Stamp


class IndexOut(Out):
    """A generation of the index."""

    id: int
    embedder: str = Field(description="What made its vectors.")
    dimensions: int
    collection: str = Field(description="Its name in Chroma.")
    created_at: Stamp
    activated_at: Stamp | None
    pending: int = Field(description="Changes that it does not know yet.")
    failed: int = Field(description="Changes that could not be made and wait for a person.")
    lag_s: float = Field(description="Seconds since the oldest change that it does not know yet.")


class IndexFailureOut(Out):
    """A memory of yours that could not be indexed."""

    memory_id: str
    error: str
    failures: int
    queued_at: Stamp
    failed_at: Stamp | None = Field(description="When it was given up; null: it is tried again.")


class MemoryIndexOut(Out):
    """How far the index follows, over all owners."""

    active: IndexOut | None = Field(description="The one that searches ask; null: no memory worker has made one yet.")
    building: IndexOut | None = Field(description="The one that takes its place once nothing is pending.")
    configured: str | None = Field(
        description="The embedder of the settings. If the active index has another, only words count: rebuild it."
    )
    pending: int
    failed: int
    lag_s: float
    failures: list[IndexFailureOut] = Field(description="Of your own memories, a hundred at most.")


class VerifyIn(In):
    """Whether to set right what differs."""

    repair: bool = Field(False, description="Queue what is missing or has failed, remove what should not be there.")


class VerifiedOut(Out):
    """How the index differs from Postgres, over all owners, in numbers of memories."""

    differences: int = Field(description="Missing, ghosts and failed together; 0 is what it should be.")
    expected: int = Field(description="Memories that it should hold.")
    pending: int = Field(description="Changes that are on their way; they count nowhere else.")
    failed: int
    missing: int
    ghosts: int = Field(description="In the index, but not in Postgres at that version.")
    examples: list[str] = Field(description="Some of both, as `id:version`.")
    repaired: bool = Field(description="Whether all that has been set right or queued.")
