"""Artifact: a file that a task's program left behind."""

from __future__ import annotations

from sqlalchemy import ForeignKey, LargeBinary
from sqlalchemy.orm import Mapped, mapped_column

from schema.base import Base, Id, Name, Now


class Artifact(Base):
    """A file of one attempt.

    Unlike attempts and events it refers to its task: the check costs little beside the file, and a file that outlives
    its task would never be found again.
    """

    __tablename__ = "artifacts"

    task_id: Mapped[Id] = mapped_column(ForeignKey("tasks.id", ondelete="CASCADE"), primary_key=True)
    attempt: Mapped[int] = mapped_column(primary_key=True)
    #: Relative, with `/` between directories.
    name: Mapped[Name] = mapped_column(primary_key=True)
    #: Bytes.
    size: Mapped[int]
    #: Stored as it is (see the migration), so that a piece can be read without the rest.
    content: Mapped[bytes] = mapped_column(LargeBinary)
    created_at: Mapped[Now]
