"""Group chat: a named set of agents."""

from __future__ import annotations

from sqlalchemy import CheckConstraint, Index, Text, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from schema.base import Base, Id, Name, Now, Word


class GroupChat(Base):
    """A message to it reaches every member but its sender. A closed one takes no more."""

    __tablename__ = "groupchats"

    id: Mapped[Id] = mapped_column(primary_key=True)
    owner: Mapped[Name]
    name: Mapped[Name]
    description: Mapped[str | None] = mapped_column(Text)
    #: Ids of the members.
    agents: Mapped[list[str]] = mapped_column(JSONB)
    status: Mapped[Word] = mapped_column(server_default="active")
    created_at: Mapped[Now]
    updated_at: Mapped[Now]

    __table_args__ = (
        CheckConstraint("status IN ('active', 'closed')", name="status"),
        Index("groupchats_idx_status", "status"),
        # Lists: newest first within an owner.
        Index("groupchats_idx_owner", "owner", text("created_at DESC"), text("id DESC")),
    )
