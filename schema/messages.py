"""Message: a letter from one agent to another, or to a group chat. Inbox: where an agent's letters are numbered."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Identity, Index, Text, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from schema.base import Base, Id, Name, Now, Time, Word, one_of


class MessageStatus(StrEnum):
    """How far a message is on its way."""

    PENDING = "pending"
    #: It has its place in the inbox.
    SENT = "sent"
    #: It was acknowledged.
    RECEIVED = "received"


_LETTER = "destination_agent_id IS NOT NULL"


class Message(Base):
    """A letter, or a post: a post to a group chat has no destination, and a copy for each member.

    Copies are letters with a status of their own; the post's says what all of them have reached.
    """

    __tablename__ = "messages"

    id: Mapped[Id] = mapped_column(primary_key=True)
    owner: Mapped[Name]
    source_agent_id: Mapped[Id] = mapped_column(ForeignKey("agents.id"))
    #: None of a post.
    destination_agent_id: Mapped[Id | None] = mapped_column(ForeignKey("agents.id"))
    #: Of a post and of its copies.
    groupchat_id: Mapped[Id | None] = mapped_column(ForeignKey("groupchats.id"))
    #: Of a copy: its post.
    post_id: Mapped[Id | None] = mapped_column(ForeignKey("messages.id"))
    session_id: Mapped[Id | None] = mapped_column(ForeignKey("sessions.id"))
    message_type: Mapped[Word]
    content: Mapped[str] = mapped_column(Text)
    # `metadata` is taken on a declarative class.
    details: Mapped[dict[str, Any] | None] = mapped_column("metadata", JSONB)
    status: Mapped[Word] = mapped_column(server_default=MessageStatus.PENDING)
    #: The order in which messages were accepted.
    position: Mapped[int] = mapped_column(BigInteger, Identity())
    #: Its number in the inbox, from 1 without gaps; None until it is sent, and of a post.
    seq: Mapped[int | None]
    created_at: Mapped[Now]
    sent_at: Mapped[Time | None]
    received_at: Mapped[Time | None]

    __table_args__ = (
        CheckConstraint(one_of("status", MessageStatus), name="status"),
        CheckConstraint(
            "(destination_agent_id IS NULL) = (groupchat_id IS NOT NULL AND post_id IS NULL)", name="destination"
        ),
        Index("messages_idx_source_agent", "source_agent_id"),
        Index("messages_idx_destination_agent", "destination_agent_id"),
        Index("messages_idx_created_at", "created_at"),
        # Lists: newest first within an owner, as posted.
        Index(
            "messages_idx_owner",
            "owner",
            text("created_at DESC"),
            text("id DESC"),
            postgresql_where=text("post_id IS NULL"),
        ),
        # The gateway: inbox by inbox, in the order of acceptance.
        Index(
            "messages_idx_pending",
            "owner",
            "destination_agent_id",
            "position",
            postgresql_where=text(f"status = 'pending' AND {_LETTER}"),
        ),
        # Inboxes: what is not acknowledged.
        Index(
            "messages_idx_inbox",
            "owner",
            "destination_agent_id",
            "seq",
            postgresql_where=text(f"status = 'sent' AND {_LETTER}"),
        ),
        # A number is given once.
        Index(
            "messages_one_a_seq",
            "owner",
            "destination_agent_id",
            "seq",
            unique=True,
            postgresql_where=text("seq IS NOT NULL"),
        ),
        Index("messages_idx_post", "post_id", "status", postgresql_where=text("post_id IS NOT NULL")),
        Index("messages_idx_groupchat", "groupchat_id", postgresql_where=text("groupchat_id IS NOT NULL")),
        Index("messages_idx_session", "session_id", postgresql_where=text("session_id IS NOT NULL")),
    )


class Inbox(Base):
    """The letters of one owner to one agent. Whoever numbers them holds its row.

    Each owner's are counted apart, so that gaps tell nothing of other owners.
    """

    __tablename__ = "inboxes"

    owner: Mapped[Name] = mapped_column(primary_key=True)
    agent_id: Mapped[Id] = mapped_column(ForeignKey("agents.id", ondelete="CASCADE"), primary_key=True)
    #: seq of the newest letter.
    last_seq: Mapped[int] = mapped_column(server_default=text("0"))
