"""Memory: a remembered text. The row is the truth; Chroma is a rebuildable index of it."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ARRAY, REAL, CheckConstraint, Float, Index, Text, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from schema.base import Base, Id, Name, Now, Time, Word


class Memory(Base):
    """A remembered text."""

    __tablename__ = "memory"

    id: Mapped[Id] = mapped_column(primary_key=True)
    owner: Mapped[Name]
    memory_type: Mapped[Word]
    content: Mapped[str] = mapped_column(Text)
    # `metadata` is taken on a declarative class.
    details: Mapped[dict[str, Any] | None] = mapped_column("metadata", JSONB)
    #: real[] here; the migration makes it vector(1536) where the server has pgvector.
    embedding: Mapped[list[float] | None] = mapped_column(ARRAY(REAL))
    importance: Mapped[float | None] = mapped_column(Float, server_default=text("0.5"))
    created_at: Mapped[Now]
    expires_at: Mapped[Time | None]

    __table_args__ = (
        CheckConstraint("importance BETWEEN 0 AND 1", name="importance"),
        Index("memory_idx_memory_type", "memory_type"),
        Index("memory_idx_importance", "importance"),
        Index("memory_idx_created_at", "created_at"),
    )
