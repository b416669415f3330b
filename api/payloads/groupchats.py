"""Models of group chats."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from api.payloads.common import Id, In, Name, Out, Page, PageQuery, Words
from app.moments import Stamp

#: Members of a group chat: a message to it becomes as many copies.
MOST_MEMBERS = 100
GroupChatStatus = Literal["active", "closed"]


def _once(agents: list[str]) -> list[str]:
    if len(set(agents)) != len(agents):
        raise ValueError("an id occurs twice")
    return agents


Members = Annotated[list[Id], Field(min_length=1, max_length=MOST_MEMBERS), AfterValidator(_once)]


class GroupChatIn(In):
    """A group chat to be made."""

    name: Name
    agents: Members = Field(description="Ids of its members.")
    description: Words | None = None


class GroupChatPatchIn(In):
    """What to change of a group chat; what is left out stays."""

    name: Name = ""
    agents: Members = Field([], description="In place of all members there were; what was posted stays as it is.")
    description: Words | None = None
    status: GroupChatStatus = Field("active", description="A closed one takes no messages.")


class GroupChatListQuery(PageQuery):
    """Which group chats to list."""

    status: GroupChatStatus | None = None
    name: Name | None = None


class GroupChatOut(Out):
    """A group chat."""

    id: str
    owner: str
    name: str
    description: str | None
    agents: list[str] = Field(description="Ids of its members.")
    status: GroupChatStatus
    created_at: Stamp
    updated_at: Stamp


class GroupChatPage(Page[GroupChatOut]):
    """Group chats, the newest first."""
