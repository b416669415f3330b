"""Find: read memories and what they were before."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import text

from app import cursors
from app.db import Db
from app.errors import NotFound
from app.memory.wanted import Wanted
from app.prepared import prepared

#: What is shown of a memory, with its uses.
COLUMNS = """
    m.id, m.owner, m.memory_type, m.content, m.metadata, m.importance, m.agent_id, m.session_id, m.user_id, m.status,
    m.replaced_by, m.version, m.indexed_version = m.version AS indexed, m.created_at, m.updated_at, m.expires_at,
    coalesce(u.uses, 0) AS uses, u.used_at
"""
_FROM = "FROM memory m LEFT JOIN memory_uses u ON u.memory_id = m.id"
_LIVE = "(m.expires_at IS NULL OR m.expires_at > now())"
_GET = prepared("memories", f"SELECT {COLUMNS} {_FROM} WHERE m.id = ANY(:ids) AND m.owner = :owner AND {_LIVE}")
_HISTORY = text(
    """
    SELECT version, memory_type, content, metadata, importance, expires_at, status, replaced_by, updated_at,
           replaced_at
    FROM memory_versions WHERE memory_id = :id ORDER BY version DESC
    """
)


def get(db: Db, owner: str, memory_id: str) -> Any:
    """A memory as it stands, whatever its status. Raises NotFound: there is none, it has expired, or is another's."""
    row = get_many(db, owner, [memory_id]).get(memory_id)
    if row is None:
        raise NotFound(f"No memory {memory_id}.")
    return row


def get_many(db: Db, owner: str, ids: Sequence[str]) -> dict[str, Any]:
    """Those of these memories that are the owner's and have not expired, by id."""
    return {row.id: row for row in db.execute(_GET, {"ids": list(ids), "owner": owner})}


def history(db: Db, owner: str, memory_id: str) -> list[Any]:
    """What a memory was before each change, newest first. Raises NotFound."""
    get(db, owner, memory_id)
    return list(db.execute(_HISTORY, {"id": memory_id}))


def find(db: Db, wanted: Wanted, cursor: str | None, limit: int) -> tuple[list[Any], str | None]:
    """A page of memories, newest first, and the cursor of the next.

    Raises:
        Invalid: the cursor is not one of ours, or the filter is not acceptable.
    """
    condition, params = cursors.narrowed(*wanted.where(), cursor)
    page = text(f"SELECT {COLUMNS} {_FROM} WHERE {condition} ORDER BY m.created_at DESC, m.id DESC LIMIT :limit")
    return cursors.page(list(db.execute(page, params | {"limit": limit + 1})), limit)
