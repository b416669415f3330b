"""Session: a user's conversation that groups tasks, messages and memories."""

from __future__ import annotations

from typing import Any

from sqlalchemy import CheckConstraint, Index, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from schema.base import Base, Id, Name, Now, Time, Word


class Session(Base):
    """A user's conversation. (SQLAlchemy's session is always called `db` here.) A closed one takes nothing new."""

    __tablename__ = "sessions"

    id: Mapped[Id] = mapped_column(primary_key=True)
    owner: Mapped[Name]
    user_id: Mapped[Id | None]
    session_type: Mapped[Word]
    status: Mapped[Word] = mapped_column(server_default="active")
    # `metadata` is taken on a declarative class.
    details: Mapped[dict[str, Any] | None] = mapped_column("metadata", JSONB)
    created_at: Mapped[Now]
    updated_at: Mapped[Now]
    closed_at: Mapped[Time | None]

    __table_args__ = (
        CheckConstraint("status IN ('active', 'closed')", name="status"),
        Index("sessions_idx_user_id", "user_id"),
        Index("sessions_idx_status", "status"),
        Index("sessions_idx_created_at", "created_at"),
        # Lists: newest first within an owner.
        Index("sessions_idx_owner", "owner", text("created_at DESC"), text("id DESC")),
    )
