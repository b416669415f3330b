"""stub"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Score:
    """s"""

    total: float
    parts: dict


def score(cosine, keyword_share, importance, memory_type, age_s, uses):
    return Score((max(cosine, 0) + 0.5 * keyword_share) * (0.75 + 0.5 * (importance or 0)), {"cosine": cosine})
