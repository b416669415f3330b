"""Message: a letter from one agent to another."""

from __future__ import annotations

from typing import Any

from sqlalchemy import CheckConstraint, ForeignKey, Index, Text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from schema.base import Base, Id, Name, Now, Time, Word


class Message(Base):
    """A letter with pending → sent → received."""

    __tablename__ = "messages"

    id: Mapped[Id] = mapped_column(primary_key=True)
    owner: Mapped[Name]
    source_agent_id: Mapped[Id] = mapped_column(ForeignKey("agents.id"))
    destination_agent_id: Mapped[Id] = mapped_column(ForeignKey("agents.id"))
    message_type: Mapped[Word]
    content: Mapped[str] = mapped_column(Text)
    # `metadata` is taken on a declarative class.
    details: Mapped[dict[str, Any] | None] = mapped_column("metadata", JSONB)
    status: Mapped[Word] = mapped_column(server_default="pending")
    created_at: Mapped[Now]
    sent_at: Mapped[Time | None]
    received_at: Mapped[Time | None]

    __table_args__ = (
        CheckConstraint("status IN ('pending', 'sent', 'received')", name="status"),
        Index("messages_idx_source_agent", "source_agent_id"),
        Index("messages_idx_destination_agent", "destination_agent_id"),
        Index("messages_idx_created_at", "created_at"),
    )
