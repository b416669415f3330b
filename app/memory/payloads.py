"""What is asked of memory: the bodies of its routes, and the payloads of the task types memory.*."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from app.errors import Invalid, Problem
from app.memory.filters import compile_filter
from app.memory.wanted import Wanted
from app.moments import Moment
from schema.memories import MemoryType

if TYPE_CHECKING:
    from app.memory.store import NewMemory

#: Characters of a text; its vector says little of a longer one.
MAX_CONTENT = 50_000
MAX_METADATA_BYTES = 16 * 1024
#: Memories in one request or task.
MOST_AT_ONCE = 1000


def _small(value: dict[str, Any]) -> dict[str, Any]:
    if len(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()) > MAX_METADATA_BYTES:
        raise ValueError(f"larger than {MAX_METADATA_BYTES} bytes")
    return value


Id = Annotated[str, Field(min_length=1, max_length=255)]
Content = Annotated[str, Field(min_length=1, max_length=MAX_CONTENT)]
Metadata = Annotated[dict[str, Any], AfterValidator(_small)]
Importance = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Policy = Literal["report", "merge", "ignore"]


class Asked(BaseModel):
    """What is not known is refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Scope(Asked):
    """Whose memory it is within an owner's; each may be left out."""

    agent_id: Id | None = Field(None, description="The agent that remembers.")
    session_id: Id | None = Field(None, description="The session it belongs to.")
    user_id: Id | None = Field(None, description="Whom it is about, in your own words.")


class NewMemoryIn(Scope):
    """A text to be remembered."""

    memory_type: MemoryType = Field(description="It also says how fast its recency fades in searches.")
    content: Content = Field(description="The text.")
    metadata: Metadata | None = Field(None, description="Your own fields, which `filter` looks at; 16 KiB as JSON.")
    importance: Importance = Field(0.5, description="0 to 1; weighs in searches.")
    expires_at: Moment | None = Field(None, description="Forgotten from then on; default: never. RFC 3339 with offset.")
    supersedes: Annotated[list[Id], Field(max_length=100)] = Field(
        default_factory=list, description="Ids of active memories in whose place it stands; they are kept, linked."
    )

    def to_new_memory(self) -> NewMemory:
        """The same in store's words."""
        # Whoever knows task types knows this module, and need not know embedders.
        from app.memory.store import NewMemory

        return NewMemory(**{name: getattr(self, name) for name in NewMemoryIn.model_fields})


class StorePayload(NewMemoryIn):
    """A text to be remembered, and what to do about others that say nearly the same."""

    on_near_duplicate: Policy = Field(
        "report",
        description="Others of its scope that say nearly the same: tell them, merge into the nearest, or neither.",
    )


class Sought(Scope):
    """Which memories; what is left out may be anything."""

    memory_type: MemoryType | None = None
    filter: dict[str, Any] | None = Field(
        None, description='A condition on the metadata: `{"lang": "en", "n": {"$gte": 3}}`.'
    )

    def to_wanted(self, owner: str) -> Wanted:
        """The same of an owner's memories, in words of wanted.py."""
        return Wanted(owner=owner, **{name: getattr(self, name) for name in Sought.model_fields})

    def problems(self) -> list[Problem]:
        """What is wrong with the filter, `loc` starting at it."""
        try:
            if self.filter is not None:
                compile_filter(self.filter)
        except Invalid as exc:
            return list(exc.problems)
        return []


class SearchPayload(Sought):
    """What to look for."""

    query: Annotated[str, Field(min_length=1, max_length=10_000)] = Field(description="In plain words.")
    limit: Annotated[int, Field(ge=1, le=100)] = Field(10, description="Most memories in the answer.")
    created_after: Moment | None = None
    created_before: Moment | None = None
    explain: bool = Field(False, description="Tell the parts of each score.")
    mode: Literal["hybrid", "vector", "keyword"] = Field("hybrid", description="`vector` or `keyword`: one part alone.")

    def to_wanted(self, owner: str) -> Wanted:
        """See `Sought.to_wanted`."""
        return replace(super().to_wanted(owner), created_after=self.created_after, created_before=self.created_before)


class ForgetPayload(Sought):
    """What to forget: some ids, or a scope, or all."""

    ids: Annotated[list[Id], Field(min_length=1, max_length=MOST_AT_ONCE)] | None = None
    created_before: Moment | None = None
    all: bool = Field(False, description="Every memory of yours.")

    @model_validator(mode="before")
    @classmethod
    def _no_null(cls, given: Any) -> Any:
        # A client that has lost an id must not forget everybody's memories for it.
        if isinstance(given, dict) and (empty := [name for name, value in given.items() if value is None]):
            raise ValueError(f"null is no scope: leave {', '.join(map(str, empty))[:200]} out")
        return given

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        scope = (self.agent_id, self.session_id, self.user_id, self.memory_type, self.filter, self.created_before)
        if sum((self.ids is not None, any(scope), self.all)) != 1:
            raise ValueError("give ids, or a scope that is not empty, or all as true")
        return self

    def to_wanted(self, owner: str) -> Wanted:
        """See `Sought.to_wanted`. Whatever is kept counts, not only what is found."""
        return replace(super().to_wanted(owner), created_before=self.created_before, status=None, expired=True)


class ConsolidatePayload(Sought):
    """Where to merge memories that say nearly the same."""

    threshold: Annotated[float, Field(ge=0.8, le=1, allow_inf_nan=False)] = Field(
        0.95, description="From this cosine on, two texts say nearly the same."
    )
    limit: Annotated[int, Field(ge=1, le=MOST_AT_ONCE)] = Field(MOST_AT_ONCE, description="Most memories looked at.")
    dry_run: bool = Field(False, description="Tell what would be merged, and change nothing.")
