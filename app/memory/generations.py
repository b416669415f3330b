"""Generations of the index: the first one, a new one beside the old, and the change from one to the other.

A new generation is filled by the indexer, as any change is: each memory is queued for it. When nothing is left to do,
the generations change places in one transaction; the old collection goes a little later.
"""

from __future__ import annotations

import secrets
from typing import Any

from sqlalchemy import text

from app import publisher
from app.db import Db, after_commit
from app.embeddings.base import Embedder
from app.memory import outbox

#: Seconds for which searches that have begun may still ask the old collection.
_GRACE_S = 30

_INDEXES = text("SELECT * FROM memory_indexes WHERE status <> 'retired' ORDER BY id")
_ADD = text(
    """
    INSERT INTO memory_indexes (collection, embedder, dimensions, status, activated_at)
    VALUES (:collection, :embedder, :dimensions, CAST(:status AS text), CASE WHEN :status = 'active' THEN now() END)
    ON CONFLICT DO NOTHING RETURNING id
    """
)
_QUEUE_ALL = text(
    """
    INSERT INTO memory_outbox (index_id, memory_id, owner, version)
    SELECT :index_id, id, owner, version FROM memory WHERE status = 'active' ORDER BY id
    """
)
_NAMED = text("UPDATE memory_indexes SET collection_id = :collection_id WHERE id = :id AND collection_id IS NULL")
_RENAMED = text(
    "UPDATE memory_indexes SET collection_id = :collection_id WHERE id = :id AND collection_id = :old RETURNING id"
)
# One that was begun for another embedder than the settings name now is not going to be finished.
_ABANDON = text(
    """
    UPDATE memory_indexes SET status = 'retired', activated_at = now()
    WHERE status = 'building' AND embedder <> :embedder RETURNING id
    """
)
_IS_BUILDING = text("SELECT EXISTS (SELECT FROM memory_indexes WHERE id = :id AND status = 'building')")
_UNQUEUE = text("DELETE FROM memory_outbox WHERE index_id = :index_id")
_UNINDEXED = text("UPDATE memory SET indexed_version = 0 WHERE indexed_version > 0")
_LEFT = text("SELECT EXISTS (SELECT FROM memory_outbox WHERE index_id = :index_id AND failed_at IS NULL)")
# `activated_at` is when its last state began.
_RETIRE = text(
    "UPDATE memory_indexes SET status = 'retired', activated_at = now() WHERE status = 'active' RETURNING id"
)
_ACTIVATE = text("UPDATE memory_indexes SET status = 'active', activated_at = now() WHERE id = :id")
# All but what has failed is in it at the version that stands.
_CAUGHT_UP = text(
    """
    WITH n AS (
        SELECT m.id, CASE WHEN m.status = 'active' AND NOT EXISTS (
            SELECT FROM memory_outbox o WHERE o.index_id = :id AND o.owner = m.owner AND o.memory_id = m.id
        ) THEN m.version ELSE 0 END AS version FROM memory m
    )
    UPDATE memory m SET indexed_version = n.version FROM n WHERE m.id = n.id AND m.indexed_version <> n.version
    """
)
_RETIRED = text(
    """
    SELECT id, collection FROM memory_indexes
    WHERE status = 'retired' AND activated_at < now() - :grace_s * interval '1 second'
    """
)
_REMOVE = text("DELETE FROM memory_indexes WHERE id = :id")
_COUNTS = text(
    """
    SELECT i.id, i.status, i.collection, i.embedder, i.dimensions, i.created_at, i.activated_at,
           count(o.id) FILTER (WHERE o.failed_at IS NULL) AS pending,
           count(o.id) FILTER (WHERE o.failed_at IS NOT NULL) AS failed,
           coalesce(extract(epoch FROM now() - min(o.queued_at) FILTER (WHERE o.failed_at IS NULL)), 0)::float8 AS lag_s
    FROM memory_indexes i LEFT JOIN memory_outbox o ON o.index_id = i.id
    WHERE i.status <> 'retired' GROUP BY i.id ORDER BY i.id
    """
)
_FAILURES = text(
    """
    SELECT o.memory_id, o.error, o.failures, o.queued_at, o.failed_at FROM memory_outbox o
    WHERE o.owner = :owner AND o.error IS NOT NULL ORDER BY o.failed_at IS NULL, o.id LIMIT :limit
    """
)


def serving(db: Db) -> list[Any]:
    """The indexes that the indexer fills: the active one, and one that is being built."""
    return list(db.execute(_INDEXES))


def start(db: Db, embedder: Embedder, *, status: str = "building") -> int | None:
    """Begin a generation for this embedder: all memories are queued for it.

    Returns:
        Its id; None: another one is being built, or, of the first, is there.
    """
    # Writes that do not know of it must be seen by what follows.
    outbox.hold_all(db)
    for abandoned in db.execute(_ABANDON, {"embedder": embedder.name}).scalars().all():
        db.execute(_UNQUEUE, {"index_id": abandoned})
    named = {"collection": f"clawq-memory-{secrets.token_hex(8)}", "embedder": embedder.name}
    index_id: int | None = db.execute(_ADD, named | {"dimensions": embedder.dimensions, "status": status}).scalar()
    if index_id is not None:
        if status == "active":
            db.execute(_UNINDEXED)
        db.execute(_QUEUE_ALL, {"index_id": index_id})
        after_commit(db, "memory.index", publisher.ring_indexer)
    return index_id


def named(db: Db, index_id: int, collection_id: str) -> None:
    """Chroma has made the collection of an index, under this id."""
    db.execute(_NAMED, {"id": index_id, "collection_id": collection_id})


def lost(db: Db, serving: Any, collection_id: str) -> bool:
    """Chroma has lost the collection of an index and made a new one: all memories are queued for it again.

    Args:
        serving: the index as it was seen.

    Returns:
        Whether that was to be done: somebody else may have.
    """
    outbox.hold_all(db)
    renamed = {"id": serving.id, "collection_id": collection_id, "old": serving.collection_id}
    if db.execute(_RENAMED, renamed).scalar() is None:
        return False
    db.execute(_UNQUEUE, {"index_id": serving.id})
    db.execute(_QUEUE_ALL, {"index_id": serving.id})
    return True


def flip(db: Db, index_id: int) -> bool:
    """Put the generation that is built in the place of the active one, if nothing is left to do for it."""
    outbox.hold_all(db)
    # Another indexer may have done it.
    if not db.execute(_IS_BUILDING, {"id": index_id}).scalar_one():
        return False
    if db.execute(_LEFT, {"index_id": index_id}).scalar_one():
        return False
    for retired in db.execute(_RETIRE).scalars():
        db.execute(_UNQUEUE, {"index_id": retired})
    db.execute(_ACTIVATE, {"id": index_id})
    db.execute(_CAUGHT_UP, {"id": index_id})
    return True


def retired(db: Db) -> list[Any]:
    """Generations that nobody asks any more: id and collection."""
    return list(db.execute(_RETIRED, {"grace_s": _GRACE_S}))


def remove(db: Db, index_id: int) -> None:
    """The collection of this generation is gone."""
    db.execute(_REMOVE, {"id": index_id})


def counts(db: Db) -> list[Any]:
    """The generations that are filled, and how far each is behind: pending, failed, and the age of the oldest."""
    return list(db.execute(_COUNTS))


def failures(db: Db, owner: str, limit: int = 100) -> list[Any]:
    """The owner's memories that could not be indexed, those first that wait for a person."""
    return list(db.execute(_FAILURES, {"owner": owner, "limit": limit}))
