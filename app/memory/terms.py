"""What the keyword part of a search sees of a text: Postgres splits words at spaces, and many scripts have none.

Runs of such scripts become their overlapping pairs of characters, as in the CJK analysers of search engines: 学习系统
becomes 学习 习系 系统. What asks is treated as what is asked, so the pairs meet.
"""

from __future__ import annotations

import re
from itertools import pairwise
from unicodedata import normalize

#: Characters of a text that words are made of. A pair takes at most 12 bytes of a tsvector, which holds a MiB.
_MOST = 65_536

# Han; kana; hangul and its parts; Thai; Lao; Myanmar; Khmer. After NFKC, which leaves no half-width forms.
_BASES = (
    "\u2e80-\u2fdf\u3005-\u3007\u3021-\u3029\u3038-\u303b\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
    "\u3041-\u3096\u309d-\u309f\u30a1-\u30fa\u30fc-\u30ff\u31f0-\u31ff\U0001aff0-\U0001b16f"
    "\uac00-\ud7a3\u1100-\u11ff\u3131-\u318e\ua960-\ua97c\ud7b0-\ud7fb"
    "\u0e01-\u0e30\u0e32-\u0e33\u0e40-\u0e46"
    "\u0e81-\u0eb0\u0eb2-\u0eb3\u0ebd-\u0ec6\u0edc-\u0edf"
    "\u1000-\u102a\u103f\u1050-\u1055"
    "\u1780-\u17b3\u17d7\u17dc"
)
# They stand on the character before them, and a word does not begin with one.
_MARKS = (
    "\u3099\u309a\u0e31\u0e34-\u0e3a\u0e47-\u0e4e\u0eb1\u0eb4-\u0ebc\u0ec8-\u0ece"
    "\u102b-\u103e\u1056-\u1059\u17b4-\u17d3\u17dd\ufe00-\ufe0f\U000e0100-\U000e01ef"
)
_UNIT = f"[{_BASES}][{_MARKS}]*"
_RUN = re.compile(f"(?:{_UNIT})+")
_UNITS = re.compile(_UNIT)


def indexed(text: str) -> str:
    """A text as to_tsvector('english', …) shall see it, which makes less than a MiB of it."""
    return paired(text)


def asked(text: str) -> str:
    """A query, in the same form."""
    return indexed(text)


def paired(text: str) -> str:
    """A text in NFKC, with pairs of characters in place of runs without spaces. Its length is bounded."""
    if text.isascii():
        return text[:_MOST]
    return _RUN.sub(_pairs, normalize("NFKC", text[:_MOST])[:_MOST])


def is_continuous(word: str) -> bool:
    """Whether a word is of a script that puts no spaces between words."""
    return _RUN.match(word) is not None


def _pairs(run: re.Match[str]) -> str:
    units = _UNITS.findall(run[0])
    pairs = [a + b for a, b in pairwise(units)] or units
    return f" {' '.join(pairs)} "
