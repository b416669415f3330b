"""Memory: a remembered text. The row is the truth; Chroma is a rebuildable index of it.

A write queues the memory for each index in the same transaction; the indexer takes it from there (workers/indexing.py).
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from sqlalchemy import (
    ARRAY,
    REAL,
    BigInteger,
    CheckConstraint,
    Float,
    ForeignKey,
    Identity,
    Index,
    LargeBinary,
    Text,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB, TSVECTOR
from sqlalchemy.orm import Mapped, mapped_column

from schema.base import Base, Id, Name, Now, Time, Word, one_of


class MemoryType(StrEnum):
    """What kind of memory it is; it also says how fast its recency fades (app/memory/score.py)."""

    EPISODIC = "episodic"
    SEMANTIC = "semantic"
    PROCEDURAL = "procedural"
    WORKING = "working"


class MemoryStatus(StrEnum):
    """Whether it is found. The last two are kept and linked, and found by their id alone."""

    ACTIVE = "active"
    SUPERSEDED = "superseded"
    MERGED = "merged"


_ACTIVE = "status = 'active'"


class Memory(Base):
    """A remembered text, in the scope of an owner and, if given, of an agent, a session and a user."""

    __tablename__ = "memory"

    id: Mapped[Id] = mapped_column(primary_key=True)
    owner: Mapped[Name]
    memory_type: Mapped[Word]
    content: Mapped[str] = mapped_column(Text)
    # `metadata` is taken on a declarative class.
    details: Mapped[dict[str, Any] | None] = mapped_column("metadata", JSONB)
    #: Of unit length, filled up with zeros to 1536. real[] here; the migration makes it vector(1536) where the server
    #: has pgvector.
    embedding: Mapped[list[float] | None] = mapped_column(ARRAY(REAL))
    importance: Mapped[float | None] = mapped_column(Float, server_default=text("0.5"))
    created_at: Mapped[Now]
    expires_at: Mapped[Time | None]

    agent_id: Mapped[Id | None] = mapped_column(ForeignKey("agents.id"))
    session_id: Mapped[Id | None] = mapped_column(ForeignKey("sessions.id"))
    #: Whom it is about, in the client's own words.
    user_id: Mapped[Name | None]
    status: Mapped[Word] = mapped_column(server_default=MemoryStatus.ACTIVE)
    #: What stands in its place, unless it is active.
    replaced_by: Mapped[Id | None] = mapped_column(ForeignKey("memory.id", ondelete="SET NULL"))
    #: The task that stored it; a second attempt at that finds it by this.
    task_id: Mapped[Id | None]
    #: Raised by each change. Chroma knows it as `id:version`, so nothing that comes late overwrites what is newer.
    version: Mapped[int] = mapped_column(server_default=text("1"))
    #: The version that the active index holds; 0: none.
    indexed_version: Mapped[int] = mapped_column(server_default=text("0"))
    #: The embedder that made `embedding` of this content; both None until the indexer came by.
    embedder: Mapped[Name | None]
    content_sha256: Mapped[bytes] = mapped_column(LargeBinary)
    #: What the keyword part of a search reads (app/memory/terms.py).
    keywords: Mapped[Any] = mapped_column(TSVECTOR)
    updated_at: Mapped[Now]

    __table_args__ = (
        CheckConstraint("importance BETWEEN 0 AND 1", name="importance"),
        CheckConstraint(one_of("memory_type", MemoryType), name="memory_type"),
        CheckConstraint(one_of("status", MemoryStatus), name="status"),
        Index("memory_idx_memory_type", "memory_type"),
        Index("memory_idx_importance", "importance"),
        Index("memory_idx_created_at", "created_at"),
        # Lists: newest first within an owner.
        Index("memory_idx_owner", "owner", text("created_at DESC"), text("id DESC")),
        # A text is remembered once in its scope.
        Index(
            "memory_one_text_a_scope",
            "owner",
            "content_sha256",
            "memory_type",
            "agent_id",
            "session_id",
            "user_id",
            unique=True,
            postgresql_nulls_not_distinct=True,
            postgresql_where=text(_ACTIVE),
        ),
        Index("memory_idx_task", "task_id", unique=True, postgresql_where=text("task_id IS NOT NULL")),
        Index("memory_idx_agent", "agent_id", postgresql_where=text("agent_id IS NOT NULL")),
        Index("memory_idx_session", "session_id", postgresql_where=text("session_id IS NOT NULL")),
        Index("memory_idx_user", "owner", "user_id", postgresql_where=text("user_id IS NOT NULL")),
        Index("memory_idx_replaced_by", "replaced_by", postgresql_where=text("replaced_by IS NOT NULL")),
        Index("memory_idx_expires_at", "expires_at", postgresql_where=text("expires_at IS NOT NULL")),
        Index(
            "memory_idx_metadata",
            "metadata",
            postgresql_using="gin",
            postgresql_ops={"metadata": "jsonb_path_ops"},
            postgresql_with={"fastupdate": "off"},
        ),
        Index("memory_idx_keywords", "keywords", postgresql_using="gin", postgresql_with={"fastupdate": "off"}),
    )


class MemoryVersion(Base):
    """What a memory was before a change. It goes with the memory."""

    __tablename__ = "memory_versions"

    memory_id: Mapped[Id] = mapped_column(ForeignKey("memory.id", ondelete="CASCADE"), primary_key=True)
    version: Mapped[int] = mapped_column(primary_key=True)
    memory_type: Mapped[Word]
    content: Mapped[str] = mapped_column(Text)
    details: Mapped[dict[str, Any] | None] = mapped_column("metadata", JSONB)
    importance: Mapped[float | None] = mapped_column(Float)
    expires_at: Mapped[Time | None]
    status: Mapped[Word]
    replaced_by: Mapped[Id | None]
    #: When this version began and when it ended.
    updated_at: Mapped[Time]
    replaced_at: Mapped[Now]


class MemoryUse(Base):
    """How often searches have answered with a memory. Apart from its row, which searches must not wait for."""

    __tablename__ = "memory_uses"

    memory_id: Mapped[Id] = mapped_column(ForeignKey("memory.id", ondelete="CASCADE"), primary_key=True)
    uses: Mapped[int]
    used_at: Mapped[Now]


class IndexStatus(StrEnum):
    """What an index is for. At most one is building and at most one active."""

    BUILDING = "building"
    ACTIVE = "active"
    RETIRED = "retired"


class MemoryIndex(Base):
    """One generation of the index: a collection in Chroma with the vectors of one embedder."""

    __tablename__ = "memory_indexes"

    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    #: The collection's name.
    collection: Mapped[Name]
    #: The id that Chroma gave it, so that one made anew under its name is noticed; None: not made yet.
    collection_id: Mapped[Name | None]
    #: The name of the embedder, which says all that its vectors depend on (app/embeddings/).
    embedder: Mapped[Name]
    dimensions: Mapped[int]
    status: Mapped[Word]
    created_at: Mapped[Now]
    activated_at: Mapped[Time | None]

    __table_args__ = (
        CheckConstraint(one_of("status", IndexStatus), name="status"),
        Index("memory_indexes_one_of_each", "status", unique=True, postgresql_where=text("status <> 'retired'")),
    )


class MemoryOutbox(Base):
    """A memory has changed, or is gone, and an index does not know yet. No foreign key: the memory may be gone."""

    __tablename__ = "memory_outbox"

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    index_id: Mapped[int] = mapped_column(ForeignKey("memory_indexes.id", ondelete="CASCADE"))
    memory_id: Mapped[Id]
    owner: Mapped[Name]
    #: Its version after the change; the last one of a memory that is gone.
    version: Mapped[int]
    queued_at: Mapped[Now]
    #: An indexer that has taken it moves this on, so that another one takes it if the first has died.
    available_at: Mapped[Now]
    #: Tries that failed for reasons of its own.
    failures: Mapped[int] = mapped_column(server_default=text("0"))
    error: Mapped[str | None] = mapped_column(Text)
    #: It has failed too often, and waits for a person.
    failed_at: Mapped[Time | None]

    __table_args__ = (
        Index("memory_outbox_idx_due", "available_at", "id", postgresql_where=text("failed_at IS NULL")),
        Index("memory_outbox_idx_memory", "index_id", "owner", "memory_id"),
        Index("memory_outbox_idx_failed", "id", postgresql_where=text("failed_at IS NOT NULL")),
    )
