"""Verify: whether the index holds exactly what Postgres says it should, and what to do where it does not."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from sqlalchemy import text

from app import publisher
from app.db import Db, after_commit
from app.memory import index

_MOST_EXAMPLES = 20

_EXPECTED = text("SELECT id, version FROM memory WHERE status = 'active'")
_STILL = text("SELECT id, version FROM memory WHERE status = 'active' AND id = ANY(:ids)")
_QUEUED = text("SELECT memory_id, failed_at IS NOT NULL AS failed FROM memory_outbox WHERE index_id = :index_id")
_QUEUE = text(
    """
    INSERT INTO memory_outbox (index_id, memory_id, owner, version)
    SELECT :index_id, id, owner, version FROM memory WHERE id = ANY(:ids)
    """
)
_AGAIN = text(
    """
    UPDATE memory_outbox SET failed_at = NULL, failures = 0, available_at = now()
    WHERE index_id = :index_id AND failed_at IS NOT NULL
    """
)


@dataclass(frozen=True)
class Report:
    """How the index differs from Postgres, in numbers of memories."""

    #: Active memories.
    expected: int
    #: Changes that the indexer has still to make, and those it gave up; what they concern counts nowhere below.
    pending: int
    failed: int
    #: Not in the index.
    missing: int
    #: In the index and not, or not any more, in Postgres.
    ghosts: int
    #: Keys, `id:version`, of some of both.
    examples: list[str]
    #: Whether all of it has been set right or queued.
    repaired: bool

    @property
    def differences(self) -> int:
        """Zero is what it should be."""
        return self.missing + self.ghosts + self.failed


def verify(db: Db, serving: Any, keys: Collection[str], *, repair: bool) -> Report:
    """Compare the keys that a collection held a moment ago with what it should hold.

    Args:
        serving: the index, a row of memory_indexes.
        keys: all of `index.keys`, read without a transaction, since that takes long.
        repair: queue what is missing or has failed, and remove what should not be there.

    Raises:
        IndexAway, IndexLost: the index does not answer.
    """
    held = set(keys)
    expected = {index.key_of(row.id, row.version) for row in db.execute(_EXPECTED)}
    queued = db.execute(_QUEUED, {"index_id": serving.id}).all()
    busy = {row.memory_id for row in queued}
    missing, ghosts = expected - held, held - expected
    # What was indexed or changed between the two looks is looked at again.
    doubtful = [key for key in missing | ghosts if _memory(key) not in busy]
    held = index.holds(serving.collection, doubtful)
    still = {
        index.key_of(row.id, row.version) for row in db.execute(_STILL, {"ids": [_memory(key) for key in doubtful]})
    }
    busy |= {row.memory_id for row in db.execute(_QUEUED, {"index_id": serving.id})}
    doubtful = [key for key in doubtful if _memory(key) not in busy]
    missing = {key for key in doubtful if key in still and key not in held}
    ghosts = {key for key in doubtful if key in held and key not in still}
    if repair:
        _repair(db, serving, missing, ghosts)
    return Report(
        expected=len(expected),
        pending=sum(not row.failed for row in queued),
        failed=sum(row.failed for row in queued),
        missing=len(missing),
        ghosts=len(ghosts),
        examples=sorted(missing | ghosts)[:_MOST_EXAMPLES],
        repaired=repair,
    )


def _repair(db: Db, serving: Any, missing: set[str], ghosts: set[str]) -> None:
    # A key that does not stand never stands again: versions only rise.
    if ghosts:
        index.remove(serving.collection, sorted(ghosts))
    if missing:
        db.execute(_QUEUE, {"index_id": serving.id, "ids": sorted(_memory(key) for key in missing)})
    db.execute(_AGAIN, {"index_id": serving.id})
    after_commit(db, "memory.index", publisher.ring_indexer)


def _memory(key: str) -> str:
    return key.rpartition(":")[0]
