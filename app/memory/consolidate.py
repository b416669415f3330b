"""Consolidate: link memories of one scope that say nearly the same. One stands, and the others are kept."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sqlalchemy import text

from app.db import Db
from app.embeddings.choose import embedder
from app.memory.update import replace, update
from app.memory.vectors import from_bytes
from app.memory.wanted import Wanted
from schema.memories import MemoryStatus

#: Memories that are compared with each other at once.
MOST = 1000


@dataclass(frozen=True)
class Group:
    """Memories that say nearly the same."""

    kept: str
    #: Kept as well, as `merged`, and no longer found by searches.
    merged: list[str]
    #: The least cosine between the one that stands and another.
    similarity: float


@dataclass(frozen=True)
class Consolidated:
    """What a consolidation found."""

    groups: list[Group]
    #: Memories that were compared: those that are indexed.
    compared: int
    #: Whether there are more than were asked for.
    more: bool


def consolidate(
    db: Db, wanted: Wanted, *, threshold: float = 0.95, limit: int = MOST, dry_run: bool = False
) -> Consolidated:
    """Merge memories of the same type, agent, session and user whose cosine is at least `threshold`.

    The most important one stands, of equals the most used and then the newest, with the greatest importance of all.
    Only memories that the indexer has seen are compared, newest first, and at most `limit` of them.

    Raises:
        Invalid: the filter is not acceptable.
    """
    rows = _rows(db, wanted, limit + 1)
    scopes: dict[tuple[Any, ...], list[Any]] = defaultdict(list)
    for row in rows[:limit]:
        scopes[row.memory_type, row.agent_id, row.session_id, row.user_id].append(row)
    groups = [group for some in scopes.values() for group in _groups(some, threshold)]
    if not dry_run:
        by_id = {row.id: row for row in rows}
        for group in groups:
            _merge(db, wanted.owner, by_id[group.kept], [by_id[one] for one in group.merged])
    return Consolidated(groups, min(len(rows), limit), len(rows) > limit)


def _rows(db: Db, wanted: Wanted, limit: int) -> list[Any]:
    condition, params = wanted.where()
    asked = text(
        f"""
        SELECT m.id, m.version, m.expires_at, m.memory_type, m.agent_id, m.session_id, m.user_id, m.importance,
               m.created_at, coalesce(u.uses, 0) AS uses, array_send(CAST(m.embedding AS real[])) AS embedding
        FROM memory m LEFT JOIN memory_uses u ON u.memory_id = m.id
        WHERE {condition} AND m.status = 'active' AND m.embedder = :embedder AND m.embedding IS NOT NULL
        ORDER BY m.created_at DESC, m.id DESC LIMIT :limit
        """  # noqa: S608
    )
    return list(db.execute(asked, params | {"embedder": embedder().name, "limit": limit}))


def _groups(rows: Sequence[Any], threshold: float) -> list[Group]:
    """The first of those that are alike stands; each belongs to the first that it is like, so groups do not drift."""
    ranked = sorted(rows, key=lambda row: (row.importance or 0.0, row.uses, row.created_at, row.id), reverse=True)
    vectors = np.stack([from_bytes(row.embedding, embedder().dimensions) for row in ranked])
    cosines = vectors @ vectors.T
    free = np.ones(len(ranked), dtype=bool)
    groups = []
    for place, row in enumerate(ranked):
        if not free[place]:
            continue
        free[place] = False
        alike = np.flatnonzero(free & (cosines[place] >= threshold))
        free[alike] = False
        if len(alike):
            least = round(float(min(1.0, cosines[place, alike].min())), 6)
            groups.append(Group(row.id, [ranked[other].id for other in alike], least))
    return groups


def _merge(db: Db, owner: str, kept: Any, merged: Sequence[Any]) -> None:
    """Merge what has not changed since it was compared. The one that stands lasts as long as any of them would have."""
    ids, versions = [row.id for row in merged], [row.version for row in merged]
    done = replace(db, owner, ids, kept.id, MemoryStatus.MERGED, versions=versions, by_version=kept.version)
    together = [kept, *(row for row in merged if row.id in set(done))]
    if len(together) > 1:
        ends = [row.expires_at for row in together]
        changes = {
            "importance": max(row.importance or 0.0 for row in together),
            "expires_at": None if None in ends else max(ends),
        }
        update(db, owner, kept.id, changes)
