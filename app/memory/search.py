"""Search: memories that fit a question, by meaning and by words, best first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from app import metrics
from app.db import Db
from app.embeddings.base import EmbedderAway, Unembeddable
from app.embeddings.choose import embedder
from app.errors import SettingsError
from app.memory import dense, keywords
from app.memory.dense import Asked, Dense
from app.memory.find import get_many
from app.memory.score import Score, score
from app.memory.wanted import Wanted
from app.prepared import prepared

Mode = Literal["hybrid", "vector", "keyword"]

#: Candidates of the keyword part, and of them those whose vectors are always read.
_POOL = 50
_READ = 10
_FACTS = prepared(
    "memory_facts",
    f"""
    SELECT {dense.FACTS} FROM memory m LEFT JOIN memory_uses u ON u.memory_id = m.id
    WHERE m.id = ANY(:ids) AND m.owner = :owner
    """,  # noqa: S608
)
# In the order of ids, so that two searches do not wait for each other in a ring. Nobody loses anything but a count if
# Postgres dies now.
_USE = prepared(
    "memory_use",
    """
    INSERT INTO memory_uses (memory_id, uses)
    SELECT m.id, 1 FROM memory m WHERE m.id = ANY(:ids) ORDER BY m.id FOR KEY SHARE SKIP LOCKED
    ON CONFLICT (memory_id) DO UPDATE SET uses = memory_uses.uses + 1, used_at = now()
    """,
    before="SET LOCAL synchronous_commit = off;",
)


@dataclass(frozen=True)
class Hit:
    """A memory that fits, as `find` shows it, and how well."""

    memory: Any
    score: Score


@dataclass(frozen=True)
class Found:
    """What a search answers."""

    hits: list[Hit]
    #: Why it may not be the best answer; empty: it is. The words are explained in docs/memory.md.
    degraded_by: list[str]

    @property
    def degraded(self) -> bool:
        """Whether something that should have taken part did not."""
        return bool(self.degraded_by)


def search(db: Db, wanted: Wanted, query: str, *, limit: int = 10, mode: Mode = "hybrid") -> Found:
    """The `limit` memories that fit `query` best. Those found count as used once more.

    While the index or the embedder is away, words alone decide, and the answer says so.

    Raises:
        Invalid: the filter is not acceptable.
    """
    asked, part = None, Dense(bound=-1.0)
    if mode != "keyword":
        try:
            with_what = embedder()
            asked = dense.ask(db, wanted, with_what, with_what.embed([query])[0])
        except (EmbedderAway, Unembeddable, SettingsError):
            part = Dense(degraded_by=["embedder_away"])
    ranked = keywords.candidates(db, wanted, query, _POOL)
    if asked:
        part = dense.hear(db, wanted, asked, enough=max(limit, dense.POOL // 4))
        # The graph of an index may lead nowhere near a vector: of texts that are nearly alike it leaves out a third.
        doubtful = [*dense.same(db, wanted, query), *(one for one, _ in ranked[:_READ])]
        part.cosines |= dense.cosines(db, [one for one in doubtful if one not in part.cosines], asked)
    shares = _shares(ranked) if mode != "vector" else {}
    scores = _scores(db, wanted.owner, part, shares, limit, asked)
    # What has nothing to do with the question is no answer, however few there are.
    fitting = [one for one in scores if scores[one].total > 0]
    best = sorted(fitting, key=lambda one: (-scores[one].total, one))[:limit]
    rows = get_many(db, wanted.owner, best)
    hits = [Hit(rows[one], scores[one]) for one in best if one in rows]
    if hits:
        db.execute(_USE, {"ids": [hit.memory.id for hit in hits]})
    metrics.MEMORY_SEARCHES.labels("degraded" if part.degraded_by else "whole").inc()
    return Found(hits, part.degraded_by)


def _shares(ranked: list[tuple[str, float]]) -> dict[str, float]:
    """Keyword scores as shares of the best one."""
    best = max((value for _, value in ranked), default=0.0)
    return {one: value / best for one, value in ranked} if best > 0 else {}


def _scores(
    db: Db,
    owner: str,
    part: Dense,
    shares: Mapping[str, float],
    limit: int,
    asked: Asked | None,
) -> dict[str, Score]:
    unknown = [one for one in {**part.cosines, **shares} if one not in part.facts]
    facts = part.facts | {row.id: row for row in db.execute(_FACTS, {"ids": unknown, "owner": owner})}

    def scored(one: str, cosine: float) -> Score:
        row = facts[one]
        return score(cosine, shares.get(one, 0.0), row.importance, row.memory_type, row.age_s, row.uses)

    scores = {one: scored(one, part.cosines.get(one, 0.0)) for one in facts}
    if asked is None:
        return scores
    # The cosine of what words alone have found is worth reading only where it can bring that among the best.
    known = sorted((found.total for found in scores.values()), reverse=True)
    least = known[limit - 1] if len(known) >= limit else 0.0
    unsure = [one for one in facts if one not in part.cosines and scored(one, part.bound).total >= least]
    exact = dense.cosines(db, unsure, asked)
    return scores | {one: scored(one, cosine) for one, cosine in exact.items()}
