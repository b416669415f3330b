"""Near: which memories of a scope say nearly what a new text says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from app.db import Db
from app.embeddings.base import EmbedderAway, Unembeddable
from app.embeddings.choose import embedder
from app.errors import SettingsError
from app.memory import dense
from app.memory.find import get_many
from app.memory.wanted import Wanted

if TYPE_CHECKING:
    from app.memory.store import NewMemory

#: From this cosine on, two texts count as nearly the same.
THRESHOLD = 0.95
_MOST = 5


@dataclass(frozen=True)
class Likeness:
    """A memory that says nearly the same."""

    id: str
    #: The cosine of both vectors.
    similarity: float


def look(db: Db, owner: str, memories: Sequence[NewMemory]) -> list[Sequence[Likeness] | None]:
    """For each text, the active memories of its scope that say nearly the same, nearest first, but for itself.

    None where that cannot be told now: the index or the embedder is away, or not ready.
    """
    try:
        with_what = embedder()
        vectors = with_what.embed([memory.content for memory in memories])
    except (EmbedderAway, Unembeddable, SettingsError):
        return [None] * len(memories)
    found: list[Sequence[Likeness] | None] = []
    for memory, vector in zip(memories, vectors, strict=True):
        memory_type, agent_id, session_id, user_id = memory.scope
        wanted = Wanted(
            owner=owner,
            memory_type=memory_type,
            agent_id=agent_id,
            session_id=session_id,
            user_id=user_id,
            exact=True,
        )
        seen = dense.hear(db, wanted, dense.ask(db, wanted, with_what, vector), enough=1)
        complete = not set(seen.degraded_by) - {"index_behind"}
        found.append(_alike(db, owner, memory, seen.cosines) if complete else None)
    return found


def _alike(db: Db, owner: str, memory: NewMemory, cosines: dict[str, float]) -> list[Likeness]:
    close = {one: cosine for one, cosine in cosines.items() if cosine >= THRESHOLD}
    rows = get_many(db, owner, list(close)) if close else {}
    same = [row for row in rows.values() if row.content != memory.content]
    alike = [Likeness(row.id, round(min(close[row.id], 1.0), 6)) for row in same]
    return sorted(alike, key=lambda likeness: -likeness.similarity)[:_MOST]
