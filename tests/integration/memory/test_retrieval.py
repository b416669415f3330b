"""Both parts of a search find at least what each finds alone, on real questions with known answers."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from app.embeddings.hashed import Hashed
from benchmarks.corpus import Corpus, passages, rules
from benchmarks.retrieval import compare, words_of


@pytest.mark.parametrize("of", [rules, passages])
def test_together_they_find_more_than_vectors_and_hardly_less_than_words(of: Callable[[], Corpus]) -> None:
    corpus = of()
    few = Corpus(corpus.name, corpus.memories, corpus.questions[:400])
    assert len(few.questions) >= 200
    found = compare(few, words_of(few), Hashed())
    assert found.both.recall >= found.vectors.recall
    assert found.both.recall >= found.words.recall - 0.01
    assert found.both.recall > 0.5
