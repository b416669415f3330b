"""The embedder `hash`: built in, offline, lexical.

Lexical: two texts are near if they share words, or words that are written alike. It knows nothing of meaning: `car` and
`automobile` are strangers. Signed feature hashing (Weinberger et al., 2009) of words and of the n-grams of their
characters (as fastText has them), each word with a sublinear weight for how often it occurs.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING
from unicodedata import category

from app.embeddings.base import MOST_DIMENSIONS, unit
from app.memory.terms import is_continuous, paired

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from app.embeddings.base import Vectors

_SIZES = (3, 4, 5)
#: The share of a word's squared length that is the word itself; the rest is its n-grams.
_WHOLE = 0.5
_MOST_KEPT = 16_384
#: Longer ones are cut in pieces.
_PIECE = re.compile(r"\S{1,40}")
#: They say little about what a text is about.
_LITTLE = """
a about after all also am an and any are as at be because been before being but by can could did do does doing for
from had has have having he her here hers him his how i if in into is it its just me might more most must my no nor
not of off on once one only or other our out over own s same she should so some such t than that the their them then
there these they this those to too up us very was we were what when where which while who whom why will with would
you your
"""
_FUNCTION_WORDS = frozenset(_LITTLE.split())
_FUNCTION_WEIGHT = 0.2


class _Words(dict[int, int]):
    """A table for `str.translate`: letters, marks and digits stay, all else separates."""

    def __missing__(self, point: int) -> int:
        self[point] = point if category(chr(point))[0] in "LMN" else 32
        return self[point]


_WORDS = _Words()


class Hashed:
    """Lexical vectors of 1536 numbers. They depend on the text alone, in any process and on any machine."""

    name = f"hash-1:{MOST_DIMENSIONS}"
    dimensions = MOST_DIMENSIONS
    at_hand = 256

    def embed(self, texts: Sequence[str]) -> Vectors:
        """One row for each text. Raises nothing."""
        import numpy as np

        rows = np.zeros((len(texts), MOST_DIMENSIONS), dtype=np.float32)
        for row, text in zip(rows, texts, strict=True):
            counts = Counter(_words(text))
            if not counts:
                continue
            features = [_features(word) for word in counts]
            weights = [(1 + math.log(count)) * _weight(word) for word, count in counts.items()]
            places = np.concatenate([places for places, _ in features])
            lengths = [len(places) for places, _ in features]
            values = np.concatenate([values for _, values in features]) * np.repeat(weights, lengths)
            row += np.bincount(places, values, MOST_DIMENSIONS)
        return unit(rows)


def _words(text: str) -> list[str]:
    return _PIECE.findall(paired(text).casefold().translate(_WORDS))


def _weight(word: str) -> float:
    return _FUNCTION_WEIGHT if word in _FUNCTION_WORDS else 1.0


@lru_cache(maxsize=_MOST_KEPT)
def _features(word: str) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Where a word's features fall, and their signed weights: together of unit length, but for collisions."""
    import numpy as np

    grams = _grams(word)
    share = math.sqrt((1 - _WHOLE) / len(grams)) if grams else 0.0
    weighted = [(f"w{word}", math.sqrt(_WHOLE)), *((f"g{gram}", share) for gram in grams)]
    hashes = [int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "little") for name, _ in weighted]
    places = np.array([number % MOST_DIMENSIONS for number in hashes], dtype=np.int64)
    signs = np.array([1.0 if number >> 63 else -1.0 for number in hashes])
    return places, signs * np.array([weight for _, weight in weighted])


def _grams(word: str) -> list[str]:
    if is_continuous(word):
        # Two characters that stand side by side: what is smaller than that is one of them.
        return list(word)
    framed = f"<{word}>"
    return [framed[at : at + size] for size in _SIZES for at in range(len(framed) - size + 1)]
