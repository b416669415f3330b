"""Workflow: tasks that were submitted together, with their order."""

from __future__ import annotations

from enum import StrEnum

from sqlalchemy import CheckConstraint, ForeignKey, Index, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from schema.base import Base, Id, Json, Name, Now, Time, Word, one_of


class WorkflowStatus(StrEnum):
    """Where a workflow stands. The last three are terminal."""

    PENDING = "pending"
    RUNNING = "running"
    PAUSED = "paused"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


ENDED = (WorkflowStatus.SUCCEEDED, WorkflowStatus.FAILED, WorkflowStatus.CANCELLED)


class Workflow(Base):
    """Tasks submitted together. Its state follows from theirs (app/workflows/advance.py)."""

    __tablename__ = "workflows"

    id: Mapped[Id] = mapped_column(primary_key=True)
    owner: Mapped[Name]
    name: Mapped[Name]
    description: Mapped[str] = mapped_column(Text, server_default="")
    status: Mapped[Word] = mapped_column(server_default=WorkflowStatus.PENDING)
    #: As posted, its input apart, so that it can be run again.
    document: Mapped[Json]
    #: What references to `input` read.
    input: Mapped[Json] = mapped_column(server_default=text("'{}'"))
    labels: Mapped[Json] = mapped_column(server_default=text("'{}'"))
    #: At most so many of its tasks are in flight at once; None: no limit.
    max_running: Mapped[int | None]
    #: What each of its tasks has at the latest.
    deadline: Mapped[Time | None]
    session_id: Mapped[Id | None] = mapped_column(ForeignKey("sessions.id"))
    #: The workflow that this one runs again.
    rerun_of: Mapped[Id | None]
    error: Mapped[str | None] = mapped_column(Text)
    cancel_requested_at: Mapped[Time | None]
    created_at: Mapped[Now]
    updated_at: Mapped[Now]
    started_at: Mapped[Time | None]
    completed_at: Mapped[Time | None]

    __table_args__ = (
        CheckConstraint(one_of("status", WorkflowStatus), name="status"),
        CheckConstraint("max_running > 0", name="max_running"),
        Index("workflows_idx_owner", "owner", text("created_at DESC"), text("id DESC")),
        Index("workflows_idx_session", "session_id", postgresql_where=text("session_id IS NOT NULL")),
        # The clock: only those that have not ended.
        Index("workflows_idx_open", "id", postgresql_where=text("status IN ('pending', 'running', 'paused')")),
    )
