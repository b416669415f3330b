"""The embedder `hash`: what is near what, and that it is the same everywhere."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.embeddings.hashed import Hashed

HASHED = Hashed()


def cosine(one: str, other: str) -> float:
    first, second = HASHED.embed([one, other])
    return float(first @ second)


@given(st.lists(st.text(st.characters(), max_size=200), max_size=5))
def test_any_text_has_a_vector_of_unit_length(texts: list[str]) -> None:
    rows = HASHED.embed(texts)
    assert rows.shape == (len(texts), 1536)
    assert rows.dtype == np.float32
    assert np.allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("text", ["", " \n", "…!?", "\ud800", "👍"])
def test_texts_without_words_have_a_fixed_vector(text: str) -> None:
    assert cosine(text, "") == 1


def test_texts_are_embedded_each_for_itself() -> None:
    texts = ["a red fox", "", "der Fuchs", "赤い狐"]
    assert np.array_equal(HASHED.embed(texts), np.concatenate([HASHED.embed([text]) for text in texts]))
    assert HASHED.embed([]).shape == (0, 1536)


_RECORDED = "7c6f0ee769"
_SHOW = """
import hashlib, numpy as np
from app.embeddings.hashed import Hashed
row = Hashed().embed(["The rose in Zoë's garden is 12 years old; 薔薇の花 too. The rose!"])[0]
print(hashlib.sha256(np.round(row * 1000).astype("<i4").tobytes()).hexdigest())
"""


@pytest.mark.parametrize("seed", ["0", "1"])
def test_vectors_are_the_same_in_every_process_and_on_every_machine(seed: str) -> None:
    shown = subprocess.run(
        [sys.executable, "-c", _SHOW],
        env=os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert shown.stdout.strip().startswith(_RECORDED), "whatever changes a vector changes the embedder's name"


def test_words_written_alike_are_nearer_than_strangers() -> None:
    assert cosine("running shoes", "runner's shoe") > 0.2 > cosine("running shoes", "tax return")


def test_what_a_text_is_about_counts_for_more_than_its_function_words() -> None:
    query = "what is the capital of France"
    assert cosine(query, "France: Paris, a capital city") > cosine(query, "what is the matter of it")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("The user likes coffee in the morning", "The user does not like coffee in the morning"),
        ("Alice owes Bob ten dollars", "Bob owes Alice ten dollars"),
        ("Deploy of service 12 failed last night", "Deploy of service 13 failed last night"),
    ],
)
def test_texts_that_contradict_are_no_near_duplicates(one: str, other: str) -> None:
    assert 0.5 < cosine(one, other) < 0.95


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("The user prefers dark mode in the editor", "the user prefers DARK MODE in the editor."),
        ("ｆｕｌｌ width", "full width"),
        ("a naïve café", "a naive cafe"),
        ("snake_case names", "snake case names"),
    ],
)
def test_spelling_that_makes_no_difference_makes_none(one: str, other: str) -> None:
    assert cosine(one, other) > 0.999


def test_text_without_spaces_is_compared_by_its_characters() -> None:
    assert cosine("我喜欢机器学习", "机器学习系统") > 0.3 > 0.1 > cosine("我喜欢机器学习", "今天天气很好")


def test_repeating_a_word_counts_less_each_time() -> None:
    once, twice, often = (cosine("apple", text) for text in ("apple pear", "apple x apple pear", "apple pear " * 50))
    assert once < twice < 1
    assert often < 0.9


def test_a_word_of_any_length_has_a_vector_of_its_own() -> None:
    digests = [hashlib.sha256(str(at).encode()).hexdigest() * 100 for at in range(2)]
    assert cosine(*digests) < 0.2
    assert cosine(digests[0], digests[0] + " and more") > 0.9
