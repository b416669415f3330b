"""Questions with known answers, from real text that the environment's packages ship.

Each corpus is another kind of pair: a summary and what follows it, a reason and what it is a reason for, two
descriptions of the same thing by different people, and a sentence and the passage it was taken from (the inverse cloze
task, Lee et al., 2019). The order is by hash, so the same packages make the same corpora anywhere.
"""

from __future__ import annotations

import ast
import hashlib
import json
import re
import subprocess
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from pydoc_data.topics import topics
from tempfile import TemporaryDirectory

import redis
from redis.commands.core import CoreCommands

from app.local import services

#: Packages beside the standard library whose documentation is read.
_PACKAGES = (
    "numpy",
    "sqlalchemy",
    "celery",
    "kombu",
    "click",
    "flask",
    "werkzeug",
    "jinja2",
    "requests",
    "docker",
    "rich",
)
#: Parts of the standard library that document themselves, or nothing.
_LEFT_OUT = {"test", "tests", "idlelib", "lib2to3", "site-packages", "pydoc_data", "ensurepip", "turtledemo", "_vendor"}
_MOST_MEMORIES, _MOST_QUESTIONS = 2500, 600
_MOST_CHARACTERS = 700


@dataclass(frozen=True)
class Question:
    """A question, and the place of its answer among the memories."""

    text: str
    answer: int


@dataclass(frozen=True)
class Corpus:
    """Texts to remember and questions about some of them."""

    name: str
    memories: list[str]
    questions: list[Question]


def corpora() -> list[Corpus]:
    """All of them."""
    return [_corpus("docstrings", _docstrings()), rules(), _corpus("commands", _commands()), passages()]


def rules() -> Corpus:
    """What Ruff's rules are for."""
    return _corpus("rules", _rules())


def passages() -> Corpus:
    """Sentences of Python's language reference."""
    return _corpus("passages", _passages())


def _corpus(name: str, pairs: Iterable[tuple[str | None, str]]) -> Corpus:
    """A corpus of pairs of a question, which may be missing, and a memory. None is there twice."""
    by_memory: dict[str, str | None] = {}
    asked: set[str] = set()
    for question, memory in sorted(pairs, key=lambda pair: _rank(pair[1])):
        if question is not None and (question in asked or question.casefold() in memory.casefold()):
            continue
        if by_memory.setdefault(memory, question) is question and question is not None:
            asked.add(question)
    chosen = list(by_memory.items())[:_MOST_MEMORIES]
    questions = [Question(question, place) for place, (_, question) in enumerate(chosen) if question is not None]
    return Corpus(name, [memory for memory, _ in chosen], questions[:_MOST_QUESTIONS])


def _rank(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def _docstrings() -> Iterator[tuple[str, str]]:
    """What a function's documentation begins with, and the rest of it."""
    site = Path(sysconfig.get_path("purelib"))
    for root in (Path(sysconfig.get_path("stdlib")), *(site / package for package in _PACKAGES)):
        for path in root.rglob("*.py"):
            if not _LEFT_OUT & set(path.relative_to(root).parts):
                yield from _documented(path)


def _documented(path: Path) -> Iterator[tuple[str, str]]:
    tree = ast.parse(path.read_bytes())
    for node in ast.walk(tree):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            continue
        summary, _, body = (ast.get_docstring(node) or "").partition("\n\n")
        summary, body = _flat(summary), _cut(body.strip())
        if 4 <= len(summary.split()) <= 40 and len(body) >= 100 and not summary.startswith((":", ">>>", "..")):
            yield summary, body


def _rules() -> Iterator[tuple[str | None, str]]:
    """Why something is bad, and what it is: Ruff's rules. Their other sections are there to be confused with."""
    told = subprocess.run(
        [Path(sys.executable).parent / "ruff", "rule", "--all", "--output-format", "json"],
        check=True,
        capture_output=True,
    )
    for rule in json.loads(told.stdout):
        parts = re.split(r"^#+ (.+)$", rule["explanation"], flags=re.MULTILINE)
        sections = dict(zip(parts[1::2], parts[2::2], strict=True))
        why = sections.pop("Why is this bad?", "").split("```")[0]
        what = sections.pop("What it does", "")
        sentences = _sentences(_flat(why))
        if what.strip():
            yield " ".join(sentences[:2]) if sentences else None, _cut(what.strip())
        yield from ((None, _cut(body.strip())) for body in sections.values() if len(body) > 80)


def _commands() -> Iterator[tuple[str | None, str]]:
    """What redis-py says of a command, and what the server itself says."""
    with TemporaryDirectory() as home, services.valkey(Path(home)) as url, redis.Redis.from_url(url) as client:
        client.set_response_callback("COMMAND", lambda answer, **_: answer)
        documented = client.execute_command("COMMAND", "DOCS")
    entries = documented if isinstance(documented, dict) else dict(zip(documented[::2], documented[1::2], strict=True))
    for name, said in entries.items():
        facts = said if isinstance(said, dict) else dict(zip(said[::2], said[1::2], strict=True))
        facts = {_word(key): value for key, value in facts.items()}
        summary = _word(facts["summary"])
        method = getattr(CoreCommands, _word(name).lower().replace("|", "_").replace(" ", "_"), None)
        sentences = _sentences(_flat((getattr(method, "__doc__", None) or "").split("\n\n")[0]))
        asked = sentences[0] if sentences and len(sentences[0].split()) >= 4 else None
        yield asked, f"{summary} ({_word(facts['group'])})"


def _word(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _passages() -> Iterator[tuple[str | None, str]]:
    """A sentence of Python's language reference, and the paragraph around it."""
    for topic in topics.values():
        for paragraph in topic.split("\n\n"):
            sentences = _sentences(_flat(paragraph))
            if len(sentences) < 2 or len(paragraph) < 150:
                continue
            place = _rank(paragraph)[0] % len(sentences)
            asked = sentences.pop(place)
            yield asked if 6 <= len(asked.split()) <= 40 else None, _cut(" ".join(sentences))


def _sentences(text: str) -> list[str]:
    return [sentence for sentence in re.split(r"(?<=[.!?])\s+(?=[A-Z\"“*`])", text) if sentence]


def _flat(text: str) -> str:
    return " ".join(text.split())


def _cut(text: str) -> str:
    """As much as a memory usually holds."""
    return text if len(text) <= _MOST_CHARACTERS else text[:_MOST_CHARACTERS].rsplit(None, 1)[0]
