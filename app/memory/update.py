"""Update: change memories. What they were is kept as a version, and the index is told."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import text

from app.db import Db
from app.errors import Conflict, Invalid, NotFound, Problem
from app.memory import outbox
from app.memory.references import past
from app.memory.terms import indexed
from schema.memories import MemoryStatus

_LOCK = text(
    """
    SELECT * FROM memory WHERE id = :id AND owner = :owner AND (expires_at IS NULL OR expires_at > now())
    FOR NO KEY UPDATE
    """
)
_KEEP = """
    INSERT INTO memory_versions (memory_id, version, memory_type, content, metadata, importance, expires_at, status,
                                 replaced_by, updated_at)
    SELECT id, version, memory_type, content, metadata, importance, expires_at, status, replaced_by, updated_at
    FROM memory WHERE id = ANY(:ids)
"""
# A vector belongs to a content; it is kept as long as that stays.
_CHANGE = text(
    f"""
    WITH k AS ({_KEEP})
    UPDATE memory SET content = :content, metadata = CAST(:metadata AS jsonb), importance = :importance,
                      memory_type = :memory_type, expires_at = :expires_at, status = :status,
                      replaced_by = :replaced_by, version = version + 1, updated_at = now(),
                      content_sha256 = :sha256, keywords = to_tsvector('english', :terms),
                      embedding = CASE WHEN content = :content THEN embedding END,
                      embedder = CASE WHEN content = :content THEN embedder END
    WHERE id = ANY(:ids)
    """  # noqa: S608
)
# In the order of ids, as every other statement that changes several. What stands in a place must be active itself, or
# two that replace each other at the same time would both be gone.
_REPLACE = text(
    f"""
    WITH locked AS (
        SELECT id, status, version FROM memory
        WHERE id = ANY(:asked || CAST(:replaced_by AS text)) AND owner = :owner
        ORDER BY id FOR NO KEY UPDATE
    ), chosen AS (
        SELECT l.id FROM locked l
        JOIN unnest(CAST(:asked AS text[]), CAST(:versions AS int[])) AS n (id, version) ON n.id = l.id
        WHERE l.status = 'active' AND l.id <> :replaced_by AND l.version = coalesce(n.version, l.version)
            AND EXISTS (SELECT FROM locked WHERE id = :replaced_by AND status = 'active'
                        AND version = coalesce(:by_version, version))
    ), k AS ({_KEEP.replace("ANY(:ids)", "ANY (ARRAY(SELECT id FROM chosen))")})
    UPDATE memory m SET status = :status, replaced_by = :replaced_by, version = version + 1, updated_at = now()
    FROM chosen WHERE m.id = chosen.id
    RETURNING m.id
    """  # noqa: S608
)
_TAKEN = text(
    """
    SELECT o.id FROM memory m JOIN memory o
        ON o.owner = m.owner AND o.content_sha256 = :sha256 AND o.memory_type = :memory_type
       AND o.agent_id IS NOT DISTINCT FROM m.agent_id AND o.session_id IS NOT DISTINCT FROM m.session_id
       AND o.user_id IS NOT DISTINCT FROM m.user_id AND o.status = 'active' AND o.id <> m.id
    WHERE m.id = :id
    """
)


def update(db: Db, owner: str, memory_id: str, changes: dict[str, Any], version: int | None = None) -> None:
    """Change a memory.

    Args:
        changes: of content, metadata, importance, memory_type, expires_at, and `status` "active", which brings one
            back that was merged or superseded.
        version: the one that the change is meant for; None: any.

    Raises:
        Invalid: it would have expired already.
        NotFound: there is none, it has expired, or is another owner's.
        Conflict: it has another version by now, or the text is already remembered in its scope.
    """
    if late := past(db, {0: changes.get("expires_at")}):
        raise Invalid("A change cannot make it expire in the past.", problems=[Problem(p.loc[1:], p.msg) for p in late])
    outbox.hold(db)
    row = db.execute(_LOCK, {"id": memory_id, "owner": owner}).mappings().one_or_none()
    if row is None:
        raise NotFound(f"No memory {memory_id}.")
    if version not in (None, row["version"]):
        raise Conflict(f"The memory is at version {row['version']}, not {version}.")
    columns = ("content", "metadata", "importance", "memory_type", "expires_at", "status", "replaced_by")
    new = {column: row[column] for column in columns} | changes
    if new["status"] == MemoryStatus.ACTIVE:
        new["replaced_by"] = None
    if all(new[column] == row[column] for column in columns):
        return
    new["sha256"] = sha256(new["content"])
    if new["status"] == MemoryStatus.ACTIVE and (taken := db.execute(_TAKEN, new | {"id": memory_id}).scalar()):
        raise Conflict(f"The text is already remembered in this scope, as {taken}.")
    new["metadata"] = None if new["metadata"] is None else json.dumps(new["metadata"])
    db.execute(_CHANGE, new | {"ids": [memory_id], "terms": indexed(new["content"])})
    outbox.queue(db, [memory_id])


def replace(
    db: Db,
    owner: str,
    ids: Sequence[str],
    by: str,
    status: MemoryStatus,
    *,
    versions: Sequence[int] | None = None,
    by_version: int | None = None,
) -> list[str]:
    """Put another memory in the place of active ones, which are kept: `status` says why.

    Args:
        versions: those that are meant, one for each of `ids`; None: any.
        by_version: that of the other one.

    Returns:
        Those that were active; none if the other one is not.
    """
    outbox.hold(db)
    meant = [None] * len(ids) if versions is None else list(versions)
    params: dict[str, Any] = {
        "asked": list(ids),
        "versions": meant,
        "owner": owner,
        "status": status,
        "replaced_by": by,
    }
    params["by_version"] = by_version
    replaced = list(db.execute(_REPLACE, params).scalars())
    outbox.queue(db, replaced)
    return replaced


def merge(old: Any, new: dict[str, Any]) -> dict[str, Any]:
    """What a memory becomes when another one that says nearly the same is merged into it.

    The newer text stands; metadata are united, the newer values first; the greater importance and the later end win.
    """
    ends: list[datetime | None] = [old.expires_at, new["expires_at"]]
    return {
        "content": new["content"],
        "metadata": {**(old.metadata or {}), **(new["metadata"] or {})} or None,
        "importance": max(old.importance or 0.0, new["importance"]),
        "expires_at": None if None in ends else max(end for end in ends if end),
    }


def sha256(content: str) -> bytes:
    """What repeats of a text are known by."""
    return hashlib.sha256(content.encode()).digest()
