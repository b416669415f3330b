"""The vector part of a search: candidates from the index, and those that the index does not hold yet.

The index is asked without a filter first: in most stacks nearly all it holds is one owner's, and a filter costs Chroma
five times as much. Postgres says which of them count; where too few do, it is asked again among those that can.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import numpy as np
from sqlalchemy import text

from app.db import Db
from app.embeddings.base import Embedder, EmbedderAway, Unembeddable
from app.memory import index
from app.memory.index import IndexAway, IndexLost, IndexRefused, Near
from app.memory.update import sha256
from app.memory.vectors import Kept, from_bytes
from app.memory.wanted import Wanted
from app.prepared import prepared

if TYPE_CHECKING:
    from app.embeddings.base import Vectors

#: Candidates that the index is asked for.
POOL = 50
#: So many vectors are read from Postgres and compared one by one, which no graph of an index can get wrong.
_FEW = 200
_SAME = 5
#: Characters of texts that a search may embed besides the question.
_MOST_CHARACTERS = 100_000
#: What the index can be told in its own words.
_IN_INDEX = ("memory_type", "agent_id", "session_id", "user_id")

#: What a score is made of, besides how well a memory fits.
FACTS = """
    m.id, m.version, m.memory_type, m.importance, coalesce(u.uses, 0) AS uses,
    extract(epoch FROM now() - greatest(m.created_at, u.used_at))::float8 AS age_s
"""

_ACTIVE = prepared(
    "memory_index",
    """
    SELECT id, collection, embedder, dimensions,
           EXISTS (SELECT FROM memory_outbox o WHERE o.index_id = i.id AND o.owner = :owner) AS behind
    FROM memory_indexes i WHERE status = 'active'
    """,
)
_EMBEDDINGS = prepared(
    "memory_embeddings",
    """
    SELECT id, array_send(CAST(embedding AS real[])) AS embedding FROM memory
    WHERE id = ANY(:ids) AND embedder = :embedder AND embedding IS NOT NULL
    """,
)
_kept = Kept()
#: More questions at once than this wait for each other; Chroma has no more to think with either.
_askers = ThreadPoolExecutor(16, thread_name_prefix="index")


@dataclass
class Dense:
    """Cosines of memories with a query."""

    cosines: dict[str, float] = field(default_factory=dict)
    #: Facts of those that the index named.
    facts: dict[str, Any] = field(default_factory=dict)
    #: Where the index has not lost its way, no memory that is wanted and not among `cosines` is nearer than this.
    bound: float = 1.0
    #: Why it may not be the whole truth.
    degraded_by: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Asked:
    """A question that the index is thinking about."""

    embedder: Embedder
    vector: Vectors
    #: The active index, if there is one.
    serving: Any
    #: What that does not hold yet.
    waiting: Sequence[Any] = ()
    #: None: there is nobody to ask.
    answer: Future[list[list[Near]]] | None = None


def active(db: Db, owner: str) -> Any:
    """The active index, and whether it does not know all of an owner's yet; None: no indexer has made one."""
    return db.execute(_ACTIVE, {"owner": owner}).one_or_none()


def ask(db: Db, wanted: Wanted, embedder: Embedder, vector: Vectors) -> Asked:
    """Ask the active index for what is near to `vector`; it thinks while the caller does something else.

    Raises:
        Invalid: the filter is not acceptable.
    """
    serving = active(db, wanted.owner)
    if serving is None or serving.embedder != embedder.name:
        return Asked(embedder, vector, serving)
    # Before the index is asked: what is indexed meanwhile is in both then, and not in neither.
    waiting = _waiting(db, wanted, serving.id, embedder.at_hand) if serving.behind else []
    answer = _askers.submit(index.nearest, serving.collection, vector[None, :], POOL)
    return Asked(embedder, vector, serving, waiting, answer)


def hear(db: Db, wanted: Wanted, asked: Asked, enough: int) -> Dense:
    """What was asked for, as far as the index answers; if it does not, the answer says so.

    Args:
        enough: with fewer wanted memories among the nearest of all, it is looked among the wanted ones alone.
    """
    found = Dense()
    if asked.answer is None:
        found.degraded_by.append("no_index" if asked.serving is None else "embedder_changed")
        return found
    try:
        (nearest,) = asked.answer.result()
        _take(db, wanted, nearest, found)
        if len(found.cosines) < enough and len(nearest) == POOL:
            _look_among(db, wanted, asked, found)
    except (IndexAway, IndexRefused):
        found.degraded_by.append("index_away")
    except IndexLost:
        found.degraded_by.append("index_lost")
    _compare(asked, found)
    return found


def cosines(db: Db, ids: Sequence[str], asked: Asked) -> dict[str, float]:
    """Cosines of those memories that Postgres holds a vector for, which is of what was asked with."""
    if not ids:
        return {}
    rows = db.execute(_EMBEDDINGS, {"ids": list(ids), "embedder": asked.embedder.name})
    return {row.id: float(from_bytes(row.embedding, asked.embedder.dimensions) @ asked.vector) for row in rows}


def same(db: Db, wanted: Wanted, content: str) -> list[str]:
    """The wanted memories that are this very text, a few of them."""
    condition, params = wanted.where()
    asked = text(f"SELECT m.id FROM memory m WHERE m.content_sha256 = :sha256 AND {condition} LIMIT :few")  # noqa: S608
    return list(db.execute(asked, params | {"sha256": sha256(content), "few": _SAME}).scalars())


def _take(db: Db, wanted: Wanted, nearest: Sequence[Near], found: Dense) -> None:
    """Take those that are wanted, at the version that stands."""
    condition, params = wanted.where()
    named = text(
        f"""
        SELECT {FACTS} FROM memory m LEFT JOIN memory_uses u ON u.memory_id = m.id
        WHERE m.id = ANY(:ids) AND {condition}
        """  # noqa: S608
    )
    rows = {row.id: row for row in db.execute(named, params | {"ids": [near.memory_id for near in nearest]})}
    for near in nearest:
        row = rows.get(near.memory_id)
        if row is not None and row.version == near.version:
            found.cosines[row.id] = near.cosine
            found.facts[row.id] = row
    found.bound = nearest[-1].cosine if len(nearest) >= POOL else -1.0


def _look_among(db: Db, wanted: Wanted, asked: Asked, found: Dense) -> None:
    """Look among those that are wanted alone. Raises as the index does."""
    condition, params = wanted.where()
    held = text(
        f"SELECT m.id, m.indexed_version FROM memory m WHERE {condition} AND m.indexed_version > 0 LIMIT :most"  # noqa: S608
    )
    rows = db.execute(held, params | {"most": index.MOST_AT_ONCE + 1}).all()
    if len(rows) <= _FEW:
        few = cosines(db, [row.id for row in rows], asked)
        found.cosines |= few
        # Vectors of a generation that is being built for another embedder are of no use here.
        if len(few) == len(rows):
            found.bound = -1.0
            return
    collection, vectors = asked.serving.collection, asked.vector[None, :]
    if len(rows) <= index.MOST_AT_ONCE:
        keys = [index.key_of(row.id, row.indexed_version) for row in rows]
        nearest = index.nearest(collection, vectors, POOL, keys=keys)[0]
    else:
        fields = {"owner": wanted.owner} | {name: value for name in _IN_INDEX if (value := getattr(wanted, name))}
        where = {"$and": [{name: value} for name, value in fields.items()]} if len(fields) > 1 else fields
        nearest = index.nearest(collection, vectors, POOL, where=where)[0]
    _take(db, wanted, nearest, found)


def _waiting(db: Db, wanted: Wanted, index_id: int, most: int) -> list[Any]:
    """What was written and is not in the index yet, newest first: who writes can read at once."""
    condition, params = wanted.where()
    statement = text(
        f"""
        SELECT m.id, m.content_sha256, m.content
        FROM (SELECT memory_id, max(id) AS newest FROM memory_outbox
              WHERE index_id = :index_id AND owner = :w_owner AND failed_at IS NULL GROUP BY memory_id) o
        JOIN memory m ON m.id = o.memory_id WHERE {condition}
        ORDER BY o.newest DESC LIMIT :most
        """  # noqa: S608
    )
    return list(db.execute(statement, params | {"index_id": index_id, "most": most + 1}))


def _compare(asked: Asked, found: Dense) -> None:
    """Compare with what waits for the index."""
    sizes = accumulate(len(row.content) for row in asked.waiting)
    fitting = sum(size <= _MOST_CHARACTERS for size in sizes)
    rows = asked.waiting[: min(fitting, asked.embedder.at_hand)]
    if len(rows) < len(asked.waiting):
        found.degraded_by.append("index_behind")
    try:
        found.cosines |= _cosines_now(asked, rows)
    except EmbedderAway:
        found.degraded_by.append("index_behind")
    except Unembeddable:
        # One of them spoils the others; each for itself then.
        for row in rows:
            with suppress(Unembeddable, EmbedderAway):
                found.cosines |= _cosines_now(asked, [row])


def _cosines_now(asked: Asked, rows: Sequence[Any]) -> dict[str, float]:
    vectors = _kept.embed(asked.embedder, [(bytes(row.content_sha256), row.content) for row in rows])
    return {row.id: float(np.dot(made, asked.vector)) for row, made in zip(rows, vectors, strict=True)}
