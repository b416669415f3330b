"""Models of API keys."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from api.payloads.common import In, Name, Out, Page
from app.moments import Moment, Stamp

Scope = Literal["read", "submit", "admin"]


class KeyIn(In):
    """A key to be made."""

    name: Name = Field(description="For people.")
    scopes: Annotated[list[Scope], Field(min_length=1, max_length=3)]
    expires_at: Moment | None = Field(None, description="Useless from then on; default: never. RFC 3339 with offset.")
    owner: Name | None = Field(None, description="Whose things it works on; default: yours.")


class KeyOut(Out):
    """A key, without its secret."""

    id: str
    name: str
    owner: str
    scopes: list[Scope]
    created_at: Stamp
    expires_at: Stamp | None
    revoked_at: Stamp | None


class NewKeyOut(KeyOut):
    """A new key."""

    key: str | None = Field(
        description="The key itself, shown this once: only a hash is kept. Null when the answer is a replay."
    )


class KeyPage(Page[KeyOut]):
    """Keys, the newest first, revoked ones included."""
