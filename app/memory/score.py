"""How well a memory fits a question.

    total = (cosine + 0.3 · keyword share) × importance × recency × uses

- Relevance adds up scores, not ranks: on LoCoMo's questions this found more than dense vectors, keywords, or reciprocal
  rank fusion of both (Cormack et al., 2009) did; Bruch et al., 2023, compare such fusions. The share is the keyword
  score as a part of the best one's. Of weights between 0.1 and 2, 0.3 does best for lexical and learned vectors
  together (docs/benchmarks.md).
- Importance, recency and relevance multiply or add in Generative Agents (Park et al., 2023), whose recency fades
  exponentially since the last use, as here. 0.75 + 0.5 · importance is cognee's.
- Nothing but relevance makes a memory fit: the other three together stay within 0.3 and 1.5, mem0's bounds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from schema.memories import MemoryType

_KEYWORDS = 0.3
_DAY_S = 86_400.0
#: By type: seconds until half of what can fade has faded, and what never does.
_FADING = {
    MemoryType.WORKING: (1 * _DAY_S, 0.4),
    MemoryType.EPISODIC: (30 * _DAY_S, 0.6),
    MemoryType.SEMANTIC: (365 * _DAY_S, 0.8),
    MemoryType.PROCEDURAL: (365 * _DAY_S, 0.8),
}
#: What uses add at most, and how many bring all of it. Little, for what is found is used, and would be found for that.
_MOST_FOR_USES = 0.05
_USES = 31


@dataclass(frozen=True)
class Score:
    """How well a memory fits.

    Attributes:
        total: from 0 to 1.71.
        parts: what it is made of, in the formula's words.
    """

    total: float
    parts: dict[str, float]


def score(
    cosine: float, keyword_share: float, importance: float | None, memory_type: str, age_s: float, uses: int
) -> Score:
    """The score of one memory.

    Args:
        cosine: of the vectors of question and memory; below 0 counts as 0.
        keyword_share: its keyword score as a share of the best one's, 0 to 1.
        importance: 0 to 1; None counts as 0.5.
        age_s: seconds since it was made or last used, whichever is later.
        uses: how many searches have answered with it.
    """
    parts = {
        "cosine": max(cosine, 0.0),
        "keyword": keyword_share,
        "importance": 0.75 + 0.5 * (0.5 if importance is None else importance),
        "recency": _recency(memory_type, age_s),
        "uses": 1 + _MOST_FOR_USES * min(1.0, math.log2(1 + max(uses, 0)) / math.log2(1 + _USES)),
    }
    relevance = parts["cosine"] + _KEYWORDS * parts["keyword"]
    return Score(relevance * parts["importance"] * parts["recency"] * parts["uses"], parts)


def _recency(memory_type: str, age_s: float) -> float:
    half_life_s, lasting = _FADING[MemoryType(memory_type)]
    return float(lasting + (1 - lasting) * 0.5 ** (max(age_s, 0.0) / half_life_s))
