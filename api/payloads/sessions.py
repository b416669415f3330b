"""Models of sessions."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AliasChoices, Field

from api.payloads.common import In, Name, Out, Page, PageQuery
from app.memory.payloads import Metadata
from app.moments import Stamp

SessionStatus = Literal["active", "closed"]
Kind = Annotated[str, Field(min_length=1, max_length=50)]


class SessionIn(In):
    """A session to be begun."""

    session_type: Kind = Field(description="What kind of conversation it is, in your own word.")
    metadata: Metadata | None = Field(None, description="Your own fields; 16 KiB as JSON.")
    user_id: Name | None = Field(None, description="Whose conversation it is, in your own words.")

    @property
    def values(self) -> dict[str, Any]:
        """Column → value, of what was given."""
        return _values(self)


class SessionPatchIn(In):
    """What to change of a session; what is left out stays."""

    session_type: Kind = ""
    metadata: Metadata | None = Field(None, description="In place of all that was there; null: none.")
    user_id: Name | None = None

    @property
    def values(self) -> dict[str, Any]:
        """Column → value, of what was given."""
        return _values(self)


class SessionListQuery(PageQuery):
    """Which sessions to list."""

    status: SessionStatus | None = None
    session_type: Kind | None = None
    user_id: Name | None = None


class SessionOut(Out):
    """A session."""

    id: str
    owner: str
    session_type: str
    status: SessionStatus
    metadata: dict[str, Any] | None = Field(validation_alias=AliasChoices("details", "metadata"))
    user_id: str | None
    created_at: Stamp
    updated_at: Stamp
    closed_at: Stamp | None


class SessionPage(Page[SessionOut]):
    """Sessions, the newest first."""


def _values(given: In) -> dict[str, Any]:
    # `metadata` is taken on a declarative class.
    return {"details" if name == "metadata" else name: getattr(given, name) for name in given.model_fields_set}
