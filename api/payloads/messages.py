"""Models of messages and inboxes."""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import AfterValidator, AliasChoices, Field, model_validator

from api.payloads.common import MAX_WAIT_S, Id, In, Out, Page, PageQuery, Query
from app.memory.payloads import Metadata
from app.messages.find import Filter
from app.messages.send import NewMessage
from app.moments import Stamp
from schema.messages import MessageStatus

#: Bytes of a message's text, as UTF-8.
MAX_CONTENT_BYTES = 64 * 1024


def _small(content: str) -> str:
    if len(content.encode()) > MAX_CONTENT_BYTES:
        raise ValueError(f"larger than {MAX_CONTENT_BYTES} bytes")
    return content


Content = Annotated[str, Field(min_length=1, max_length=MAX_CONTENT_BYTES), AfterValidator(_small)]


class MessageIn(In):
    """A message to be sent: to an agent, or to all members of a group chat but the sender."""

    source_agent_id: Id = Field(description="The agent that it comes from.")
    destination_agent_id: Id | None = Field(None, description="The agent that it goes to.")
    groupchat_id: Id | None = Field(None, description="In its place: the group chat of yours that it goes to.")
    message_type: Annotated[str, Field(min_length=1, max_length=50)] = Field(description="In your own word.")
    content: Content = Field(description="The text, 64 KiB at most.")
    metadata: Metadata | None = Field(None, description="Your own fields; 16 KiB as JSON.")
    session_id: Id | None = Field(None, description="The session it belongs to.")

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if (self.destination_agent_id is None) == (self.groupchat_id is None):
            raise ValueError("give exactly one of destination_agent_id and groupchat_id")
        return self

    def to_new_message(self) -> NewMessage:
        """The same in app's words."""
        return NewMessage(**self.__dict__)


class MessageListQuery(PageQuery):
    """Which messages to list. Copies are left out unless a destination or a post is named."""

    source_agent_id: Id | None = None
    destination_agent_id: Id | None = Field(None, description="Its letters, copies of posts among them.")
    groupchat_id: Id | None = None
    session_id: Id | None = None
    status: MessageStatus | None = None
    post_id: Id | None = Field(None, description="The copies of this post.")

    def wanted(self, owner: str | None) -> Filter:
        """The same in app's words."""
        return Filter(owner=owner, **self.model_dump(exclude={"cursor", "limit"}))


class InboxQuery(Query):
    """Where to go on in an inbox."""

    after: int = Field(0, ge=0, le=2**31 - 1, description="Only what has a greater seq.")
    limit: int = Field(100, ge=1, le=1000, description="Most items in a page.")
    wait: float = Field(
        0,
        ge=0,
        le=MAX_WAIT_S,
        allow_inf_nan=False,
        description="Seconds to wait for a letter. If too many wait already: at once, with Retry-After.",
    )


class MessageOut(Out):
    """A message: a letter to an agent, or a post to a group chat."""

    id: str
    owner: str
    source_agent_id: str
    destination_agent_id: str | None = Field(description="null: it is a post, and its copies go to the members.")
    groupchat_id: str | None
    post_id: str | None = Field(description="Of a copy: its post.")
    session_id: str | None
    message_type: str
    content: str
    metadata: dict[str, Any] | None = Field(validation_alias=AliasChoices("details", "metadata"))
    status: MessageStatus = Field(
        description="`pending`; `sent`: it is in the inbox; `received`: acknowledged. Of a post: what all copies are."
    )
    seq: int | None = Field(description="Its number in the inbox, from 1 without gaps; null until it is sent.")
    created_at: Stamp
    sent_at: Stamp | None
    received_at: Stamp | None


class MessagePage(Page[MessageOut]):
    """Messages, the newest first."""


class InboxPage(Page[MessageOut]):
    """What is not acknowledged, in the order in which it was accepted."""
