"""The embedder `hash`: built in, offline, lexical.

Lexical: two texts are near if they share words, or words that are written alike. It knows nothing of meaning: `car` and
`automobile` are strangers. Signed feature hashing (Weinberger et al., 2009) of words and of the n-grams of their
characters (as fastText has them), each word with a sublinear weight for how often it occurs; and of pairs of words, so
that who owes whom makes a difference.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING
from unicodedata import category, normalize

from app.embeddings.base import MOST_DIMENSIONS, unit
from app.memory.terms import is_continuous, paired

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from app.embeddings.base import Vectors

_SIZES = (3, 4, 5)
#: The share of a word's squared length that is the word itself; the rest is its n-grams.
_WHOLE = 0.4
#: The weight of a pair, beside those of its words.
_PAIR = 0.7
#: A word's weight grows with this power of its length, up to a length.
_LENGTH_COUNTS = 0.25
_LONG = 10
#: Words and pairs whose features are kept, about 10 MB.
_MOST_KEPT = 16_384
#: Longer ones are cut in pieces.
_PIECE = re.compile(r"\S{1,40}")
#: Those of Latin, Greek and Cyrillic letters: who types them and who does not means the same.
_ACCENTS = re.compile("[\u0300-\u036f]")
#: They say little about what a text is about.
# Those that deny are not among them: what is denied is another matter.
_LITTLE = """
a about after all also am an and any are as at be because been before being but by can could did do does doing for
from had has have having he her here hers him his how i if in into is it its just me might more most must my of off
on once one only or other our out over own s same she should so some such t than that the their them then there
these they this those to too up us very was we were what when where which while who whom why will with would you
your
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
            if words := _words(text):
                row += _sum(words)
        return unit(rows)


def _sum(words: list[str]) -> NDArray[np.float64]:
    import numpy as np

    counts: Counter[tuple[str, ...]] = Counter((word,) for word in words)
    counts.update(pairwise(words))
    features = [_features(term) for term in counts]
    weights = [(1 + math.log(count)) * _weight(*term) for term, count in counts.items()]
    places = np.concatenate([places for places, _ in features])
    values = np.concatenate([values for _, values in features])
    spread = np.repeat(weights, [len(places) for places, _ in features])
    return np.asarray(np.bincount(places, values * spread, MOST_DIMENSIONS), dtype=np.float64)


def _words(text: str) -> list[str]:
    text = paired(text).casefold()
    if not text.isascii():
        text = normalize("NFC", _ACCENTS.sub("", normalize("NFD", text)))
    return _PIECE.findall(text.translate(_WORDS))


def _weight(word: str, next_word: str = "") -> float:
    """Longer words are rarer, so they say more; a number sets apart what is otherwise alike."""
    if next_word:
        return _PAIR * math.sqrt(_weight(word) * _weight(next_word))
    if word in _FUNCTION_WORDS:
        return _FUNCTION_WEIGHT
    length = _LONG if any(letter.isdigit() for letter in word) else min(len(word), _LONG)
    return float(length**_LENGTH_COUNTS)


@lru_cache(maxsize=_MOST_KEPT)
def _features(term: tuple[str, ...]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Where the features of a word or of a pair fall, and their signed weights."""
    import numpy as np

    names = [" ".join(term), *(f"#{gram}" for gram in (_grams(*term) if len(term) == 1 else []))]
    digests = b"".join([hashlib.blake2b(name.encode(), digest_size=8).digest() for name in names])
    hashes = np.frombuffer(digests, dtype="<u8")
    weights = np.full(len(names), math.sqrt((1 - _WHOLE) / max(1, len(names) - 1)))
    weights[0] = math.sqrt(_WHOLE)
    return (hashes % MOST_DIMENSIONS).astype(np.int64), np.where(hashes >> 63, weights, -weights)


def _grams(word: str) -> list[str]:
    if is_continuous(word):
        # Two characters that stand side by side: what is smaller than that is one of them.
        return list(word)
    framed = f"<{word}>"
    return [framed[at : at + size] for size in _SIZES for at in range(len(framed) - size + 1)]
