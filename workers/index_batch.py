"""One batch of the indexer: taken from the outbox in one transaction, embedded in none, and written in a second one.

The second one holds the memories' rows: so a change that comes meanwhile is seen, and nobody waits for a provider.
Whatever dies, wherever, the outbox has it.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from sqlalchemy import text

from app import metrics
from app.db import statements
from app.embeddings.base import Embedder, EmbedderAway, Unembeddable
from app.errors import ClawqError
from app.memory import generations, index, outbox
from app.memory.index import IndexAway, IndexLost, IndexRefused
from app.memory.outbox import Entry
from app.memory.vectors import from_bytes, to_text

if TYPE_CHECKING:
    from app.embeddings.base import Vectors

log = logging.getLogger(__name__)

#: Seconds before what could not be done because of others is tried again.
_AWAY_S = 2.0

_READ = text(
    """
    SELECT id, version, content, embedder,
           CASE WHEN embedder = :embedder THEN array_send(CAST(embedding AS real[])) END AS embedding
    FROM memory WHERE id = ANY(:ids) AND status = 'active'
    """
)
_LOCK = text(
    """
    SELECT id, owner, version, status, memory_type, agent_id, session_id, user_id, indexed_version FROM memory
    WHERE id = ANY(:ids) ORDER BY id FOR NO KEY UPDATE
    """
)
# One change for both. NULL: it stays as it is.
_MARK = text(
    """
    UPDATE memory m SET indexed_version = coalesce(n.version, m.indexed_version),
                        embedding = coalesce(CAST(n.embedding AS real[]), CAST(m.embedding AS real[])),
                        embedder = CASE WHEN n.embedding IS NULL THEN m.embedder ELSE :embedder END
    FROM unnest(CAST(:ids AS text[]), CAST(:versions AS int[]), CAST(:embeddings AS text[]))
        AS n (id, version, embedding)
    WHERE m.id = n.id
    """
)


def work(with_what: Embedder, batch: int = outbox.BATCH) -> int:
    """Index a batch of at most so many; returns how many entries of the outbox it took.

    Raises:
        IndexAway: Chroma does not answer; the batch waits.
    """
    with statements() as db:
        taken = outbox.take(db, with_what.name, batch)
        ids = sorted({entry.memory_id for entry in taken})
        rows = {row.id: row for row in db.execute(_READ, {"ids": ids, "embedder": with_what.name})} if ids else {}
    if not taken:
        return 0
    vectors = _embed(with_what, rows, taken)
    for index_id in sorted({entry.index_id for entry in taken}):
        _write(with_what, [entry for entry in taken if entry.index_id == index_id], rows, vectors)
    return len(taken)


def _embed(with_what: Embedder, rows: dict[str, Any], taken: Sequence[Entry]) -> dict[str, Vectors]:
    """The vectors of these rows, as far as they can be had; what cannot is put off in the outbox."""
    vectors = {
        one: from_bytes(row.embedding, with_what.dimensions) for one, row in rows.items() if row.embedding is not None
    }
    missing = [one for one in rows if one not in vectors]
    if not missing:
        return vectors
    try:
        made = with_what.embed([rows[one].content for one in missing])
    except EmbedderAway as exc:
        _put_off(missing, taken, exc, of_its_own=False)
    except Unembeddable:
        # One of them spoils the batch; each for itself then.
        for one in missing:
            try:
                vectors[one] = with_what.embed([rows[one].content])[0]
            except EmbedderAway as exc:
                left = [other for other in missing if other not in vectors]
                _put_off(left, taken, exc, of_its_own=False)
                break
            except Unembeddable as exc:
                _put_off([one], taken, exc, of_its_own=True)
    else:
        vectors |= dict(zip(missing, made, strict=True))
    return vectors


def _put_off(memory_ids: Sequence[str], taken: Sequence[Entry], exc: ClawqError, *, of_its_own: bool) -> None:
    entries = [entry.id for entry in taken if entry.memory_id in set(memory_ids)]
    log.warning("%d memories are not indexed yet: %s", len(memory_ids), exc.detail)
    with statements() as db:
        if of_its_own:
            metrics.MEMORY_INDEX_FAILURES.inc(len(entries))
            outbox.fail(db, entries, exc.detail)
        else:
            outbox.defer(db, entries, exc.detail, _AWAY_S)


def _write(with_what: Embedder, entries: Sequence[Entry], rows: dict[str, Any], vectors: dict[str, Vectors]) -> None:
    """Write a batch to one index; if Chroma does not take it as a whole, each memory for itself."""
    try:
        _write_together(with_what, entries, rows, vectors)
    except IndexAway as exc:
        _put_off([entry.memory_id for entry in entries], entries, exc, of_its_own=False)
        raise
    except IndexLost as exc:
        _put_off([entry.memory_id for entry in entries], entries, exc, of_its_own=False)
    except IndexRefused as exc:
        ids = {entry.memory_id for entry in entries}
        if len(ids) == 1:
            _put_off(list(ids), entries, exc, of_its_own=True)
            return
        for one in sorted(ids):
            _write(with_what, [entry for entry in entries if entry.memory_id == one], rows, vectors)


def _write_together(
    with_what: Embedder, entries: Sequence[Entry], rows: dict[str, Any], vectors: dict[str, Vectors]
) -> None:
    with statements() as db:
        serving = next((one for one in generations.serving(db) if one.id == entries[0].index_id), None)
        if serving is None:
            # It has been retired meanwhile, and its entries are gone.
            return
        asked = sorted({entry.memory_id for entry in entries})
        locked = {row.id: row for row in db.execute(_LOCK, {"ids": asked})}
        active = [one for one, row in locked.items() if row.status == "active"]
        fresh = [one for one in active if one in vectors and locked[one].version == rows[one].version]
        # Changed since it was read: once more, at once.
        stale = {one for one in active if one not in rows or locked[one].version != rows[one].version}
        outbox.defer(db, [entry.id for entry in entries if entry.memory_id in stale], "changed meanwhile", 0.0)
        if fresh:
            versions = [locked[one].version for one in fresh]
            keys = [index.key_of(one, version) for one, version in zip(fresh, versions, strict=True)]
            index.put(
                serving.collection,
                keys,
                np.stack([vectors[one] for one in fresh]),
                [_seen(locked[one]) for one in fresh],
            )
        gone = [one for one in asked if one not in locked or locked[one].status != "active"]
        if old := _outdated(entries, locked, set(fresh), set(gone)):
            index.remove(serving.collection, old)
        marked = {one: locked[one].version for one in fresh} | {one: 0 for one in gone if one in locked}
        embeddings = {one: to_text(vectors[one]) for one in fresh if rows[one].embedding is None}
        params = {
            "ids": list(marked),
            "versions": list(marked.values()) if serving.status == "active" else [None] * len(marked),
            "embeddings": [embeddings.get(one) for one in marked],
            "embedder": with_what.name,
        }
        db.execute(_MARK, params)
        done = {*fresh, *gone}
        outbox.done(db, [entry for entry in entries if entry.memory_id in done])
    metrics.MEMORIES_INDEXED.inc(len(fresh))


def _seen(row: Any) -> dict[str, str]:
    """What the index is told of a memory: what it may be asked to narrow a search by."""
    told = {name: getattr(row, name) for name in ("owner", "memory_type", "agent_id", "session_id", "user_id")}
    return {name: value for name, value in told.items() if value is not None}


def _outdated(entries: Sequence[Entry], locked: dict[str, Any], fresh: set[str], gone: set[str]) -> list[str]:
    """The keys of versions that no longer count: each version had an entry, and the one before it may be there."""
    old = set()
    for entry in entries:
        if entry.memory_id not in fresh and entry.memory_id not in gone:
            continue
        row = locked.get(entry.memory_id)
        versions = {entry.version, entry.version - 1, row.indexed_version if row else 0}
        stands = row.version if row and entry.memory_id in fresh else None
        old |= {index.key_of(entry.memory_id, version) for version in versions if version > 0 and version != stands}
    return sorted(old)
