"""The score: what raises it, what lowers it, and its bounds."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.memory.score import Score, score
from schema.memories import MemoryType

DAY_S = 86_400.0
shares = st.floats(0, 1)


def made(**values: Any) -> Score:
    usual = {"cosine": 0.5, "keyword_share": 0.5, "importance": 0.5, "memory_type": "semantic", "age_s": 0.0, "uses": 0}
    return score(**(usual | values))


@given(
    cosine=st.floats(-1, 1),
    keyword_share=shares,
    importance=st.none() | shares,
    memory_type=st.sampled_from(list(MemoryType)),
    age_s=st.floats(-1e6, 1e12),
    uses=st.integers(0, 2**62),
)
def test_all_but_relevance_stays_within_bounds(cosine: float, keyword_share: float, **others: Any) -> None:
    found = score(cosine, keyword_share, **others)
    relevance = max(cosine, 0) + 0.3 * keyword_share
    assert 0.3 * relevance - 1e-9 <= found.total <= 1.5 * relevance + 1e-9
    assert math.isfinite(found.total)


def test_new_unused_and_of_middling_importance_it_is_relevance_alone() -> None:
    assert made(cosine=0.4, keyword_share=0.6).total == pytest.approx(0.58)
    assert made(importance=None) == made(importance=0.5)


@pytest.mark.parametrize(
    ("less", "more"),
    [
        ({"cosine": 0.4}, {"cosine": 0.6}),
        ({"keyword_share": 0.4}, {"keyword_share": 0.6}),
        ({"importance": 0.4}, {"importance": 0.6}),
        ({"age_s": 2 * DAY_S}, {"age_s": 1 * DAY_S}),
        ({"uses": 1}, {"uses": 2}),
        ({"memory_type": "working", "age_s": DAY_S}, {"memory_type": "episodic", "age_s": DAY_S}),
        ({"memory_type": "episodic", "age_s": DAY_S}, {"memory_type": "semantic", "age_s": DAY_S}),
    ],
)
def test_what_counts_for_more(less: dict[str, Any], more: dict[str, Any]) -> None:
    assert made(**less).total < made(**more).total


def test_what_points_the_other_way_counts_as_nothing() -> None:
    assert made(cosine=-0.9).total == made(cosine=0).total
    assert made(cosine=-0.9, keyword_share=0).total == 0


def test_half_of_what_can_fade_has_faded_after_the_half_life() -> None:
    assert made(memory_type="working", age_s=DAY_S).parts["recency"] == pytest.approx(0.7)
    assert made(memory_type="episodic", age_s=30 * DAY_S).parts["recency"] == pytest.approx(0.8)
    assert made(memory_type="episodic", age_s=-5).parts["recency"] == 1


def test_the_parts_make_the_total() -> None:
    found = made(cosine=0.3, keyword_share=0.2, importance=0.9, memory_type="working", age_s=5000, uses=3)
    parts = found.parts
    relevance = parts["cosine"] + 0.3 * parts["keyword"]
    assert found.total == pytest.approx(relevance * parts["importance"] * parts["recency"] * parts["uses"])
    assert list(parts) == ["cosine", "keyword", "importance", "recency", "uses"]
