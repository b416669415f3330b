"""Retrieval: how much of what is asked for is found, by vectors alone, by words alone, and by both.

    python -m benchmarks.retrieval [MODEL_DIR]

Real questions with known answers (corpus.py), for each embedder: `hash`; with MODEL_DIR, which ops/airgap/minilm makes,
`onnx` too, and `openai` from a service of this process that hands out projections of the same vectors. The weight
of words is chosen on one half of each corpus' questions, the figures are of the other half.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import SecretStr
from sqlalchemy import text

from app.db import statements
from app.embeddings.base import Embedder
from app.embeddings.hashed import Hashed
from app.local import services
from app.memory import keywords
from app.memory.store import NewMemory, store
from app.memory.wanted import Wanted
from benchmarks.corpus import Corpus, corpora
from schema.migrate import migrate

#: Candidates of each part, as a search takes them, and how many are answered.
POOL, ANSWERS = 50, 10
#: The weight of words in a search (app/memory/score.py), and those that it is compared with.
WEIGHT = 0.3
WEIGHTS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0, 1.5, 2.0)
_PROJECTED = 256

Matrix = NDArray[np.float32]
Ranks = list[int | None]


@dataclass(frozen=True)
class Words:
    """What the keyword part finds: for each question, place of a memory → share of the best score."""

    shares: list[dict[int, float]]


@dataclass(frozen=True)
class Quality:
    """Of questions: how many have their answer among the first ten, and the mean of 1 / its rank there."""

    recall: float
    mrr: float

    @classmethod
    def of(cls, ranks: Sequence[int | None]) -> Quality:
        hits = [rank for rank in ranks if rank is not None]
        return cls(len(hits) / len(ranks), sum(1 / rank for rank in hits) / len(ranks))

    def __str__(self) -> str:
        return f"{self.recall:.3f} / {self.mrr:.3f}"


@dataclass(frozen=True)
class Compared:
    """The reported half of a corpus with one embedder."""

    vectors: Quality
    words: Quality
    both: Quality
    #: The weight that is best on the other half, and what it brings on this one.
    best_weight: float
    with_best: Quality


def words_of(corpus: Corpus) -> Words:
    """Store a corpus in the Postgres of the settings, and ask its words."""
    owner = corpus.name
    with statements() as db:
        stored = store(db, owner, [NewMemory(memory_type="semantic", content=one) for one in corpus.memories])
    with statements() as db:
        db.execute(text("ANALYZE memory"))
    places = {one.id: place for place, one in enumerate(stored)}
    shares = []
    for question in corpus.questions:
        with statements() as db:
            ranked = keywords.candidates(db, Wanted(owner=owner), question.text, POOL)
        best = max((score for _, score in ranked), default=1.0)
        shares.append({places[one]: score / best for one, score in ranked})
    return Words(shares)


def compare(corpus: Corpus, words: Words, embedder: Embedder) -> Compared:
    """Rank the answers of a corpus by each part, and by both."""
    memories = embedder.embed(corpus.memories)
    cosines = embedder.embed([question.text for question in corpus.questions]) @ memories.T
    chosen_on, reported = range(0, len(corpus.questions), 2), range(1, len(corpus.questions), 2)

    def ranks(weight: float, of: Sequence[int]) -> Ranks:
        return [_rank(corpus, n, _scores(cosines[n], words.shares[n], weight)) for n in of]

    best = max(WEIGHTS, key=lambda weight: Quality.of(ranks(weight, chosen_on)).recall)
    alone = [_rank(corpus, n, words.shares[n]) for n in reported]
    return Compared(
        vectors=Quality.of(ranks(0.0, reported)),
        words=Quality.of(alone),
        both=Quality.of(ranks(WEIGHT, reported)),
        best_weight=best,
        with_best=Quality.of(ranks(best, reported)),
    )


def _scores(cosines: Matrix, shares: Mapping[int, float], weight: float) -> dict[int, float]:
    near = np.argpartition(-cosines, min(POOL, len(cosines) - 1))[:POOL].tolist()
    # Vectors alone propose nothing that words have found.
    candidates = {*near, *shares} if weight else set(near)
    return {one: max(float(cosines[one]), 0.0) + weight * shares.get(one, 0.0) for one in candidates}


def _rank(corpus: Corpus, question: int, scores: Mapping[int, float]) -> int | None:
    best = sorted(scores, key=lambda one: (-scores[one], one))[:ANSWERS]
    answer = corpus.questions[question].answer
    return best.index(answer) + 1 if answer in best else None


@contextmanager
def _service(embedder: Embedder) -> Iterator[str]:
    """A service of the protocol `openai`, whose vectors are those of `embedder`, projected."""
    projection = np.random.default_rng(0).normal(size=(embedder.dimensions, _PROJECTED))

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["input"]
            rows = embedder.embed(asked) @ projection
            data = [{"index": n, "embedding": row.tolist()} for n, row in enumerate(rows)]
            body = json.dumps({"data": data}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Nobody reads it."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/v1"
    finally:
        server.shutdown()
        server.server_close()


def main() -> None:
    """Measure, and print Markdown."""
    with tempfile.TemporaryDirectory() as place, services.postgres(Path(place)) as url:
        os.environ |= {"DATABASE_URL": url, "REDIS_URL": "redis://127.0.0.1:9/0", "LOG_LEVEL": "ERROR"}
        migrate(url)
        found = [(corpus, words_of(corpus)) for corpus in corpora()]
    for corpus, _ in found:
        print(f"- {corpus.name}: {len(corpus.memories):,} memories, {len(corpus.questions)} questions")
    print("\n| corpus | embedder | vectors alone | words alone | both | best weight on the other half | with that |")
    print("| --- | --- | ---: | ---: | ---: | ---: | ---: |")
    _print("hash", Hashed(), found)
    if len(sys.argv) > 1:
        from app.embeddings.onnx import Onnx
        from app.embeddings.openai import OpenAI

        model = Onnx(Path(sys.argv[1]))
        _print("onnx", model, found)
        with _service(model) as base_url:
            _print("openai", OpenAI(SecretStr(base_url), None, "projected", _PROJECTED, send_dimensions=True), found)


def _print(name: str, embedder: Embedder, found: Sequence[tuple[Corpus, Words]]) -> None:
    for corpus, words in found:
        got = compare(corpus, words, embedder)
        cells = (corpus.name, name, got.vectors, got.words, got.both, got.best_weight, got.with_best)
        print(f"| {' | '.join(map(str, cells))} |", flush=True)


if __name__ == "__main__":
    main()
