"""Artifacts: the files that an attempt left behind, kept with it and shown once it has ended.

Those of the newest attempt are all there are: a claim removes what earlier attempts kept (claim.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import count
from typing import IO

from sqlalchemy import text

from app.db import Db
from app.errors import NotFound

#: Bytes of one file, bytes of all files of an attempt, their number, and bytes of a name.
MAX_ARTIFACT_BYTES = 8 * 2**20
MAX_ARTIFACTS_BYTES = 32 * 2**20
MAX_ARTIFACTS = 256
MAX_ARTIFACT_NAME_BYTES = 255

#: Bytes that travel at once. A whole file would take ten times its size in the worker, escaped and quoted and in libpq,
#: which never gives back what it once needed.
_PIECE_BYTES = 256 * 1024
# COPY would do, but psycopg2 has none where waits are bounded (db.py).
_PIECES = text(
    """
    CREATE TEMPORARY TABLE IF NOT EXISTS pieces (place int, content bytea) ON COMMIT DELETE ROWS;
    DELETE FROM pieces
    """
)
_ADD_PIECE = text("INSERT INTO pieces (place, content) VALUES (:place, :content)")
# Whoever ends an attempt locks its row FOR UPDATE: that waits for KEY SHARE, and the other way round. A heartbeat does
# not, however long a large file takes.
_KEEP = text(
    """
    WITH ours AS (
        SELECT id, attempt FROM tasks WHERE id = :id AND attempt = :attempt AND status = 'running' FOR KEY SHARE
    ), whole AS (
        SELECT coalesce(string_agg(content, '' ORDER BY place), '') AS content FROM pieces
    )
    INSERT INTO artifacts (task_id, attempt, name, size, content)
    SELECT id, attempt, :name, octet_length(content), content FROM ours, whole
    ON CONFLICT (task_id, attempt, name)
        DO UPDATE SET size = excluded.size, content = excluded.content, created_at = now()
    RETURNING task_id
    """
)
# An attempt that was taken or handed back may have kept half of its files, and one of an earlier round says nothing of
# this one.
_SHOWN = """
    SELECT f.task_id, f.attempt, f.name, f.size, f.created_at
    FROM tasks t
    JOIN attempts a ON a.task_id = t.id AND a.attempt = t.attempt AND a.round = t.round
    JOIN artifacts f ON f.task_id = a.task_id AND f.attempt = a.attempt
    WHERE t.id = :id AND a.outcome IN ('succeeded', 'failed', 'cancelled')
"""
_LISTING = text(f'{_SHOWN} ORDER BY f.name COLLATE "C"')
_GET = text(f"{_SHOWN} AND f.name = :name")
_PIECE = text(
    """
    SELECT substring(content FROM :start + 1 FOR :length) FROM artifacts
    WHERE task_id = :task_id AND attempt = :attempt AND name = :name
    """
)


@dataclass(frozen=True)
class Kept:
    """An artifact without its content, which no longer changes."""

    task_id: str
    attempt: int
    name: str
    #: Bytes.
    size: int
    created_at: datetime


def keep(db: Db, task_id: str, attempt: int, name: str, content: IO[bytes]) -> bool:
    """Keep a file of a running attempt; one of the same name is replaced.

    Args:
        name: relative, of storable text, at most MAX_ARTIFACT_NAME_BYTES.
        content: read from where it stands.

    Returns:
        Whether the attempt is still ours; if not, nothing was written.
    """
    db.execute(_PIECES)
    for place in count():
        if not (bytes_ := content.read(_PIECE_BYTES)):
            break
        # A view, so that no message of an error shows the content.
        db.execute(_ADD_PIECE, {"place": place, "content": memoryview(bytes_)})
    return db.execute(_KEEP, {"id": task_id, "attempt": attempt, "name": name}).first() is not None


def listing(db: Db, task_id: str) -> Sequence[Kept]:
    """The artifacts of a task's newest attempt once it has ended, by name. Whose the task is, is not looked at."""
    return [Kept(*row) for row in db.execute(_LISTING, {"id": task_id})]


def get(db: Db, task_id: str, name: str) -> Kept:
    """One of those that `listing` has.

    Raises:
        NotFound: it has no such name.
    """
    row = db.execute(_GET, {"id": task_id, "name": name}).one_or_none()
    if row is None:
        raise NotFound(f"Task {task_id} has no artifact {name!r}.")
    return Kept(*row)


def piece(db: Db, kept: Kept, start: int, length: int) -> bytes:
    """At most `length` bytes of an artifact's content, from `start` on.

    Raises:
        NotFound: a newer attempt has begun since `kept` was read.
    """
    params = {"task_id": kept.task_id, "attempt": kept.attempt, "name": kept.name, "start": start, "length": length}
    content = db.execute(_PIECE, params).scalar()
    if content is None:
        raise NotFound(f"The artifact {kept.name!r} is gone: its task is being done again.")
    return bytes(content)
