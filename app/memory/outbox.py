"""The outbox between Postgres and the index: what has changed, written in the transaction that changes it.

An indexer takes rows, and puts off the time at which the next may take them; only what is done is deleted. So an
indexer that dies loses nothing, and a row that is done twice is harmless: Chroma knows memories by id and version.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import text

from app import publisher
from app.db import Db, after_commit

#: Rows in one turn of an indexer: about a fifth of a second of Chroma's time.
BATCH = 256
#: Seconds until another indexer takes what one has taken and not done.
LEASE_S = 30
#: Failures of its own after which a row waits for a person.
MOST_FAILURES = 5
#: Seconds before the second try, and the most between two.
_FIRST_WAIT_S, _LONGEST_WAIT_S = 1, 300

# A new index is announced under this lock, so that no write overlooks it (generations.py).
_HOLD = text("SELECT pg_advisory_xact_lock_shared(hashtext('clawq.memory.indexes'))")
_HOLD_ALL = text("SELECT pg_advisory_xact_lock(hashtext('clawq.memory.indexes'))")
_QUEUE = text(
    """
    INSERT INTO memory_outbox (index_id, memory_id, owner, version)
    SELECT i.id, m.id, m.owner, m.version
    FROM unnest(CAST(:ids AS text[])) AS n (id) JOIN memory m ON m.id = n.id
    CROSS JOIN (SELECT id FROM memory_indexes WHERE status <> 'retired') i
    """
)
# The wait of Chroma or of a provider that is away counts nowhere: `failures` are the row's own.
_TAKE = text(
    """
    WITH taken AS (
        SELECT o.id FROM memory_outbox o JOIN memory_indexes i ON i.id = o.index_id
        WHERE o.failed_at IS NULL AND o.available_at <= now() AND i.status <> 'retired' AND i.embedder = :embedder
        ORDER BY o.available_at, o.id LIMIT :batch FOR UPDATE OF o SKIP LOCKED
    )
    UPDATE memory_outbox o SET available_at = now() + :lease_s * interval '1 second'
    FROM taken WHERE o.id = taken.id
    RETURNING o.id, o.index_id, o.memory_id, o.version
    """
)
# What had failed before is done with it, too.
_DONE = text(
    """
    DELETE FROM memory_outbox
    WHERE id = ANY(:ids) OR index_id = :index_id AND memory_id = ANY(:memory_ids) AND failed_at IS NOT NULL
    """
)
_DEFER = text(
    "UPDATE memory_outbox SET available_at = now() + :wait_s * interval '1 second', error = :error WHERE id = ANY(:ids)"
)
_FAIL = text(
    """
    UPDATE memory_outbox
    SET failures = failures + 1, error = :error,
        available_at = now() + least(:first_s * 2 ^ failures, :longest_s) * interval '1 second',
        failed_at = CASE WHEN failures + 1 >= :most THEN now() END
    WHERE id = ANY(:ids)
    """
)
_DUE = text(
    """
    SELECT EXISTS (SELECT FROM memory_outbox o JOIN memory_indexes i ON i.id = o.index_id
                   WHERE o.failed_at IS NULL AND o.available_at <= now() AND i.status <> 'retired')
        OR EXISTS (SELECT FROM memory_indexes WHERE status <> 'active')
        OR NOT EXISTS (SELECT FROM memory_indexes WHERE status = 'active')
    """
)


@dataclass(frozen=True)
class Entry:
    """A row of the outbox that this indexer has taken."""

    id: int
    index_id: int
    memory_id: str
    version: int


def hold(db: Db) -> None:
    """Let no index be added or exchanged until `db` has committed. Comes before a write's other statements."""
    db.execute(_HOLD)


def hold_all(db: Db) -> None:
    """Wait until no write is under way, and let none begin until `db` has committed."""
    db.execute(_HOLD_ALL)


def queue(db: Db, ids: Iterable[str]) -> None:
    """Queue memories as they stand now, for every index; the indexer is rung after commit.

    Of one that is to be deleted the row must still be there.
    """
    if asked := list(ids):
        db.execute(_QUEUE, {"ids": asked})
        after_commit(db, "memory.index", publisher.ring_indexer)


def take(db: Db, embedder: str, batch: int = BATCH) -> list[Entry]:
    """Take what is due for indexes of this embedder, oldest first."""
    params = {"embedder": embedder, "batch": batch, "lease_s": LEASE_S}
    return [Entry(*row) for row in db.execute(_TAKE, params)]


def done(db: Db, entries: Sequence[Entry]) -> None:
    """What these entries, of one index, are about is in it."""
    if entries:
        memory_ids = list({entry.memory_id for entry in entries})
        ids = [entry.id for entry in entries]
        db.execute(_DONE, {"ids": ids, "index_id": entries[0].index_id, "memory_ids": memory_ids})


def defer(db: Db, ids: Sequence[int], error: str, wait_s: float) -> None:
    """Whoever does the work is away: these wait, and nothing counts against them."""
    db.execute(_DEFER, {"ids": list(ids), "error": error, "wait_s": wait_s})


def fail(db: Db, ids: Sequence[int], error: str) -> None:
    """These could not be done, for reasons of their own. After `MOST_FAILURES` they wait for a person."""
    params = {"ids": list(ids), "error": error, "most": MOST_FAILURES}
    db.execute(_FAIL, params | {"first_s": _FIRST_WAIT_S, "longest_s": _LONGEST_WAIT_S})


def ring_due(db: Db) -> None:
    """The clock's duty: ring the indexer if there is something to do that nobody has in hand."""
    if db.execute(_DUE).scalar_one():
        after_commit(db, "memory.index", publisher.ring_indexer)
