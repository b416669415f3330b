"""Keywords: memories whose words fit a question, best first, by BM25 (Robertson & Zaragoza, The Probabilistic Relevance
Framework, 2009).

Postgres would rank every row that holds any of the words: too many, once a word is in each tenth memory. So rows are
chosen first: those with a rare word, or with several that are less rare, as many combinations as bring about `_BUDGET`
rows, the heaviest first. Those are ranked exactly. How common a word is comes from what ANALYZE has found, or is
counted, up to a bound.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from typing import Any

from sqlalchemy import text

from app.db import Db
from app.memory import terms
from app.memory.wanted import Wanted

#: Words of a question that count: those that it holds most often, then the first.
MOST_WORDS = 64
#: With fewer memories than this to choose from, all that hold any of the words are ranked.
_FEW = 1000
#: Rows that the chosen combinations are expected to bring, and what they may bring at most.
_BUDGET = 700
_MOST_ROWS = 2 * _BUDGET
#: A word is counted up to here; what is more frequent is not chosen by itself.
_MOST_COUNTED = 1000
#: Of so many it is looked up how long they are.
_SAMPLE = 300
#: Combinations are of the rarest words alone, and of so many at most.
_RAREST = 8
_TOGETHER = 3
#: How much more often two words meet than if they knew nothing of each other.
_ATTRACTION = 1.5
#: BM25's usual constants: how soon a repeated word stops counting, and how much long texts are marked down.
_K1, _B = 1.2, 0.75
#: How long it is believed what ANALYZE has found.
_FRESH_S = 60.0

_LEXEMES = text(
    """
    SELECT lexeme FROM unnest(to_tsvector('english', :asked))
    ORDER BY cardinality(positions) DESC, positions[1], lexeme LIMIT :most
    """
)
_COMMON = text(
    """
    SELECT most_common_elems::text::text[] AS lexemes, most_common_elem_freqs AS shares FROM pg_stats
    WHERE schemaname = current_schema() AND tablename = 'memory' AND attname = 'keywords'
    """
)


@dataclass(frozen=True)
class _Word:
    """A word of the question that some memory holds."""

    #: As a tsquery.
    query: str
    #: How many hold it, as far as is known.
    documents: float
    #: Its inverse document frequency.
    weight: float


@dataclass(frozen=True)
class _Known:
    """What is known of the memories that there are to choose from."""

    #: How many there are.
    total: float
    #: Bytes of a usual one.
    length: float
    #: The words of the question as tsqueries, and how many memories hold each.
    queries: Sequence[str]
    documents: Sequence[float]

    def words(self) -> list[_Word]:
        """The words that any memory holds, rarest first."""
        words = [
            _Word(query, number, math.log(1 + (self.total - number + 0.5) / (number + 0.5)))
            for query, number in zip(self.queries, self.documents, strict=True)
            if number
        ]
        return sorted(words, key=lambda word: (-word.weight, word.query))


def candidates(db: Db, wanted: Wanted, query: str, limit: int) -> list[tuple[str, float]]:
    """The ids of `limit` memories that fit the words of `query`, with their scores, which are positive; best first.

    Nothing in `query` is an operator. Without a word that says something (all are stop words) nothing fits.

    Raises:
        Invalid: the filter is not acceptable.
    """
    asked = {"asked": terms.asked(query), "most": MOST_WORDS}
    lexemes = db.execute(_LEXEMES, asked).scalars().all()
    if not lexemes:
        return []
    condition, params = wanted.where()
    known = _known(db, condition, params, lexemes)
    words = known.words()
    if not words:
        return []
    ranked = partial(_ranked, db, condition, params, words, known.length)
    if known.total < _FEW:
        return ranked([_any(words)], limit)
    either = _chosen(words, known.total)
    found = ranked(either, limit)
    if len(found) < limit and either != [_any(words)]:
        # What fits less, as far as it is read.
        found += ranked([_any(words)], limit)
    best = {one: score for one, score in reversed(found)}
    return sorted(best.items(), key=lambda item: (-item[1], item[0]))[:limit]


def _any(words: Sequence[_Word]) -> str:
    return " | ".join(word.query for word in words)


def _quoted(lexeme: str) -> str:
    """A lexeme as a tsquery of itself alone."""
    return "'" + lexeme.replace("\\", "\\\\").replace("'", "''") + "'"


def _known(db: Db, condition: str, params: Mapping[str, Any], lexemes: Sequence[str]) -> _Known:
    """Find out about the memories that there are to choose from: by looking at all of them only if they are few."""
    queries = [_quoted(lexeme) for lexeme in lexemes]
    # To count them would take too long.
    explained = db.execute(text(f"EXPLAIN (FORMAT JSON) SELECT FROM memory m WHERE {condition}"), params).scalar_one()
    expected = int(explained[0]["Plan"]["Plan Rows"])
    # Where the planner expects many there are more than a few; where it expects few there may be many all the same.
    if expected < 10 * _FEW and (few := _known_of_few(db, condition, params, queries)).total < _FEW:
        return few
    # They are not few; so if few are expected, ANALYZE knows nothing of them.
    common = _common.read(db) if expected >= _FEW else {}
    documents = [common.get(lexeme, 0.0) * expected for lexeme in lexemes]
    unknown = [n for n, number in enumerate(documents) if not number]
    counts = "".join(
        f", (SELECT count(*) FROM (SELECT FROM memory m WHERE {condition}"  # noqa: S608
        f" AND m.keywords @@ CAST(:q{n} AS tsquery) LIMIT :most) held)"
        for n in unknown
    )
    statement = f"""
        SELECT (SELECT avg(octet_length(content))
                FROM (SELECT m.content FROM memory m WHERE {condition} LIMIT :sample) usual){counts}
        """  # noqa: S608
    asked = {**params, **{f"q{n}": queries[n] for n in unknown}, "most": _MOST_COUNTED, "sample": _SAMPLE}
    length, *counted = db.execute(text(statement), asked).one()
    for n, number in zip(unknown, counted, strict=True):
        documents[n] = number
    return _Known(max(expected, 4 * max(documents)), float(length or 0), queries, documents)


def _known_of_few(db: Db, condition: str, params: Mapping[str, Any], queries: Sequence[str]) -> _Known:
    """What is known from looking at all, or at the first `_FEW`."""
    counts = "".join(f", count(*) FILTER (WHERE keywords @@ CAST(:q{n} AS tsquery))" for n in range(len(queries)))
    statement = f"""
        SELECT count(*), avg(octet_length(content)){counts}
        FROM (SELECT m.keywords, m.content FROM memory m WHERE {condition} LIMIT :few) few
        """  # noqa: S608
    total, length, *documents = db.execute(text(statement), {**params, **_numbered("q", queries), "few": _FEW}).one()
    return _Known(total, float(length or 0), queries, documents)


def _chosen(words: Sequence[_Word], total: float) -> list[str]:
    """Combinations of words as tsqueries; a memory that fits any of them is ranked.

    The heaviest first, until they bring enough rows. Each stands for those that hold its words and more.
    """
    rarest = range(min(len(words), _RAREST))
    possible = [some for size in range(1, _TOGETHER + 1) for some in combinations(rarest, size)]
    possible.sort(key=lambda some: -sum(words[n].weight for n in some))
    chosen: list[tuple[int, ...]] = []
    rows = 0.0
    for some in possible:
        if any(set(smaller) <= set(some) for smaller in chosen):
            continue
        rows += _meeting([words[n].documents for n in some], total)
        if rows > _BUDGET and chosen:
            break
        chosen = [*(larger for larger in chosen if not set(some) <= set(larger)), some]
    return _factored(chosen, words)


def _meeting(documents: Sequence[float], total: float) -> float:
    """About how many memories hold all of some words, the rarest first."""
    together = documents[0]
    for number in documents[1:]:
        together *= min(1.0, _ATTRACTION * number / total)
    return together


def _factored(chosen: Sequence[tuple[int, ...]], words: Sequence[_Word]) -> list[str]:
    """Combinations, with what they have in common taken out in front; words by themselves are in the last one.

    Postgres reads all that is indexed of the first word of each, and of others what it must.
    """
    tree: dict[int, Any] = {}
    for some in chosen:
        branch = tree
        for n in some:
            branch = branch.setdefault(n, {})
    alone = [words[n].query for n, below in tree.items() if not below]
    factored = [_written(n, below, words) for n, below in tree.items() if below]
    return [*factored, " | ".join(alone)] if alone else factored


def _written(n: int, below: Mapping[int, Any], words: Sequence[_Word]) -> str:
    if not below:
        return words[n].query
    return f"{words[n].query} & ({' | '.join(_written(m, further, words) for m, further in below.items())})"


def _ranked(
    db: Db,
    condition: str,
    params: Mapping[str, Any],
    words: Sequence[_Word],
    length: float,
    either: Sequence[str],
    limit: int,
) -> list[tuple[str, float]]:
    """The best of the memories that fit any tsquery of `either`.

    `ts_rank` of one word is 1 + 1/4 + … + 1/n² over that sum's limit, π²/6, where it stands n times in the text: so it
    tells n, without reading all words of the text.
    """
    fits = " OR ".join(f"m.keywords @@ CAST(:e{n} AS tsquery)" for n in range(len(either)))
    ranks = ", ".join(f"ts_rank('{{1,1,1,1}}', keywords, CAST(:q{n} AS tsquery)) AS r{n}" for n in range(len(words)))
    parts = " + ".join(
        f"CASE WHEN r{n} > 0 THEN CAST(:w{n} AS float8) / (1 + long / (1 / (:limit_of_sum * (1.00001 - r{n})) - 0.5))"
        " ELSE 0 END"
        for n in range(len(words))
    )
    # What lies apart from its row is read once, by the concatenation; its length is known without that.
    statement = f"""
        WITH found AS MATERIALIZED (
          SELECT m.id, m.keywords || '' AS keywords,
                 CAST(:least AS float8) + CAST(:a_byte AS float8) * octet_length(m.content) AS long
          FROM memory m WHERE {condition} AND ({fits}) LIMIT :most
        ), ranked AS MATERIALIZED (SELECT id, long, {ranks} FROM found)
        SELECT id, {parts} AS score FROM ranked ORDER BY score DESC, id LIMIT :limit
        """  # noqa: S608
    asked = {
        **params,
        **_numbered("e", either),
        **_numbered("q", [word.query for word in words]),
        **_numbered("w", [word.weight * (_K1 + 1) for word in words]),
        **{"least": _K1 * (1 - _B), "a_byte": _K1 * _B / max(length, 1.0), "limit_of_sum": math.pi**2 / 6},
        **{"most": _MOST_ROWS, "limit": limit},
    }
    return [(row.id, row.score) for row in db.execute(text(statement), asked)]


def _numbered(prefix: str, values: Sequence[Any]) -> dict[str, Any]:
    return {f"{prefix}{n}": value for n, value in enumerate(values)}


class _Common:
    """The share of memories, of all owners, that hold each common word; read now and then."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._shares: dict[str, float] = {}
        self._read_at = -math.inf

    def read(self, db: Db) -> dict[str, float]:
        with self._lock:
            if time.monotonic() - self._read_at > _FRESH_S:
                row = db.execute(_COMMON).one_or_none()
                # Behind the shares stand the least and the greatest of them.
                self._shares = dict(zip(row.lexemes, row.shares, strict=False)) if row and row.lexemes else {}
                self._read_at = time.monotonic()
            return self._shares


_common = _Common()
