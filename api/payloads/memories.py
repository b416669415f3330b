"""Models of memories that HTTP alone has; those that task types share are in app/memory."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from api.payloads.common import In, Out, Page, PageQuery
from app.memory.answers import LikenessOut, MemoryOut
from app.memory.document import MemoryDocument
from app.memory.payloads import MOST_AT_ONCE, Content, Id, Importance, Metadata, NewMemoryIn, Policy
from app.memory.wanted import Wanted
from app.moments import Moment, Stamp
from schema.memories import MemoryStatus, MemoryType

#: Memories of a batch that near ones are looked for.
_MOST_LOOKED_FOR = 100


class MemoryBatchIn(In):
    """Texts that are remembered all or none."""

    memories: Annotated[list[NewMemoryIn], Field(min_length=1, max_length=MOST_AT_ONCE)]
    on_near_duplicate: Policy = Field(
        "ignore", description=f"As of a single one. For at most {_MOST_LOOKED_FOR} memories: to look takes its time."
    )

    @model_validator(mode="after")
    def _in_time(self) -> Self:
        if self.on_near_duplicate != "ignore" and len(self.memories) > _MOST_LOOKED_FOR:
            raise ValueError(f"on_near_duplicate: at most {_MOST_LOOKED_FOR} memories, or ignore")
        return self


class MemoryPatchIn(In):
    """What to change of a memory; what is left out stays."""

    content: Content = ""
    metadata: Metadata | None = Field(None, description="In place of all that was there; null: none.")
    importance: Importance = 0.5
    memory_type: MemoryType = MemoryType.SEMANTIC
    expires_at: Moment | None = Field(None, description="null: never.")
    status: Literal[MemoryStatus.ACTIVE] = Field(
        MemoryStatus.ACTIVE, description="Brings one back that was superseded or merged."
    )
    version: Annotated[int, Field(ge=1, le=2**31 - 1)] | None = Field(
        None, description="The version that the change is meant for: 409 if it is another by now."
    )

    @property
    def changes(self) -> dict[str, Any]:
        """Column → value."""
        given = self.model_fields_set - {"version"}
        return {name: getattr(self, name) for name in MemoryPatchIn.model_fields if name in given}


class MemoryImportIn(In):
    """Documents that are imported all or none."""

    memories: Annotated[list[MemoryDocument], Field(min_length=1, max_length=MOST_AT_ONCE)]


class ScopeQuery(PageQuery):
    """Which memories, a page at a time."""

    memory_type: MemoryType | None = None
    agent_id: Id | None = None
    session_id: Id | None = None
    user_id: Id | None = None

    def wanted(self, owner: str, **more: Any) -> Wanted:
        """The same in app's words; `more` are further fields of them."""
        scope = {name: getattr(self, name) for name in ("memory_type", "agent_id", "session_id", "user_id")}
        return Wanted(owner=owner, **scope, **more)


class MemoryListQuery(ScopeQuery):
    """Which memories to list."""

    status: MemoryStatus = Field(MemoryStatus.ACTIVE, description="`superseded` and `merged` ones on demand.")


class StoredMemoryOut(MemoryOut):
    """The memory that holds the text now, and what became of the request."""

    result: Literal["created", "duplicate_of", "updated"] = Field(
        description="`duplicate_of`: the scope had this text already. `updated`: merged into one that said nearly it."
    )
    duplicate_of: str | None = Field(description="Its id, if the scope had this text already.")
    near_duplicates: list[LikenessOut] | None = Field(
        description="Memories of the scope that say nearly the same; null: not looked for, or not to be told now."
    )


class MemoryPage(Page[MemoryOut]):
    """Memories, the newest first."""


class StoredItemOut(Out):
    """What became of a text of a batch."""

    id: str = Field(description="The memory that holds it now.")
    result: Literal["created", "duplicate_of", "updated"]
    duplicate_of: str | None


class MemoryBatchOut(Out):
    """What became of each, in the order given."""

    items: list[StoredItemOut]


class MemoryVersionOut(Out):
    """What a memory was before a change."""

    version: int
    memory_type: MemoryType
    content: str
    metadata: dict[str, Any] | None
    importance: float | None
    expires_at: Stamp | None
    status: MemoryStatus
    replaced_by: str | None
    updated_at: Stamp = Field(description="When this version began.")
    replaced_at: Stamp = Field(description="When it ended.")


class MemoryHistory(Page[MemoryVersionOut]):
    """Older versions of a memory, the newest first."""


class MemoryDocumentPage(Page[MemoryDocument]):
    """Memories as documents, the newest first."""


class ImportedOut(Out):
    """What became of a document."""

    id: str = Field(description="The memory that holds it now: another id than before if someone else has that one.")
    result: Literal["created", "duplicate_of"] = Field(
        description="`duplicate_of`: the id, or the text in its scope, was here already and stays as it is."
    )
    duplicate_of: str | None
    unlinked: bool = Field(description="`replaced_by` is not here (yet): import the document again once it is.")


class MemoryImportOut(Out):
    """What became of each, in the order given."""

    items: list[ImportedOut]
