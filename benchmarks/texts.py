"""Texts to remember: sentences of real words in an order that English could have, the same ones in every run.

They are walks through the word pairs of what the standard library's modules say of themselves.
"""

from __future__ import annotations

import ast
import random
import re
import sysconfig
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from itertools import pairwise
from pathlib import Path

#: Words of a sentence, at least and at most.
_SHORTEST, _LONGEST = 8, 24
_WORD = re.compile(r"[A-Za-z][a-z'-]+")
_START = ""


def sentences(count: int, seed: int = 0) -> list[str]:
    """So many sentences, no two alike. Those of two seeds have hardly any in common."""
    followers = _followers()
    found: dict[str, None] = {}
    number = 0
    while len(found) < count:
        found[_sentence(followers, random.Random(f"{seed}.{number}"))] = None  # noqa: S311
        number += 1
    return list(found)


def questions(texts: Sequence[str], count: int, seed: int = 0) -> list[str]:
    """So many questions, each of some words in a row of one of the texts."""
    dice = random.Random(seed)  # noqa: S311
    asked = []
    for text in dice.choices(texts, k=count):
        words = text.split()
        start = dice.randrange(max(1, len(words) - 5))
        asked.append(" ".join(words[start : start + 5]))
    return asked


def _sentence(followers: Mapping[str, Sequence[str]], dice: random.Random) -> str:
    words: list[str] = []
    while len(words) < _SHORTEST:
        words.append(dice.choice(followers.get(words[-1] if words else _START) or followers[_START]))
    while len(words) < _LONGEST and (next_ones := followers.get(words[-1])):
        words.append(dice.choice(next_ones))
    return " ".join(words)


@cache
def _followers() -> dict[str, list[str]]:
    """What follows each word, as often as it does; what follows nothing is the first word of a sentence."""
    followers = defaultdict(list)
    for text in _docstrings():
        for sentence in re.split(r"[.:;!?]\s|\n\s*\n", text):
            for word, following in pairwise([_START, *_WORD.findall(sentence)]):
                followers[word].append(following)
    return dict(followers)


def _docstrings() -> Iterator[str]:
    library = Path(sysconfig.get_path("stdlib"))
    for path in sorted(library.glob("*.py")):
        for node in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                yield ast.get_docstring(node) or ""
