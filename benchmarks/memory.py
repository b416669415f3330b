"""Memory: how fast memories come in and are found again, beside Chroma alone with the same vectors.

`make bench-memory` runs it. For a quick look, CLAWQ_BENCH_MEMORIES bounds how many there are.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

import chromadb
import numpy as np
import psutil

from app.embeddings.hashed import Hashed
from benchmarks.aims import Aim, show
from benchmarks.setting import Stack, stack, until
from benchmarks.texts import questions, sentences

LARGEST = int(os.environ.get("CLAWQ_BENCH_MEMORIES", "100000"))
SIZES = [size for size in (10_000, 100_000) if size <= LARGEST] or [LARGEST]
#: Memories in a request, and in one upsert of Chroma alone, as the indexer makes them.
BATCH, UPSERT = 1000, 256
#: Vectors that Chroma alone is given, and searches that are timed; those with a filter take long.
RAW, SEARCHES, FILTERED = 10_000, 200, 40
PATIENCE_S = 1800
#: The owner of the embedded stack's first key.
OWNER = "admin"
ONLY = {"owner": OWNER}
#: As app/memory/chroma.py has it.
GRAPH = {"hnsw": {"space": "cosine", "max_neighbors": 32, "ef_construction": 200, "ef_search": 100}}
#: A raw query may be this many times faster than a search over HTTP.
MOST_TIMES_RAW = 3.0
ROLES = ("api", "memory", "chroma", "postgres")


@dataclass(frozen=True)
class Times:
    """Milliseconds of many of a kind."""

    p50: float
    p95: float

    @classmethod
    def of(cls, taken: Sequence[float]) -> Times:
        return cls(statistics.median(taken), statistics.quantiles(taken, n=20)[-1])


@dataclass(frozen=True)
class Row:
    """What was measured at one size."""

    memories: int
    accepted_s: float
    indexed_s: float
    search: Times
    raw: Times
    filtered: Times


class Memories:
    """The memories of a stack, and its Chroma."""

    def __init__(self, where: Stack) -> None:
        self.where = where
        self.count = 0
        address = urlsplit(_chroma_url(where))
        self.chroma = chromadb.HttpClient(host=str(address.hostname), port=int(address.port or 80))

    def grow(self, texts: Sequence[str]) -> tuple[float, float]:
        """Store these texts. Returns memories accepted a second, and a second to the end of indexing."""
        client = self.where.client()
        requests = [
            client.request("POST", "/api/v1/memories/batch", {"memories": [_semantic(text) for text in some]})
            for some in _parts(texts, BATCH)
        ]
        began = time.perf_counter()
        for request in requests:
            client.send(request)
        accepted = time.perf_counter() - began
        until(lambda: self._pending() == 0, PATIENCE_S, every_s=1)
        self.count += len(texts)
        return len(texts) / accepted, len(texts) / (time.perf_counter() - began)

    def _pending(self) -> int:
        return int(self.where.client().call("GET", "/api/v1/memories/index")["pending"])

    def search(self, asked: Sequence[str]) -> tuple[Times, Times, Times]:
        """Times of searches over HTTP, of queries of Chroma alone, and of such with a filter by owner, in turns."""
        client = self.where.client()
        name = client.call("GET", "/api/v1/memories/index")["active"]["collection"]
        collection = self.chroma.get_collection(name, embedding_function=None)
        vectors = Hashed().embed(asked)
        ours, raw, filtered = [], [], []
        for n, (question, vector) in enumerate(zip(asked, vectors, strict=True)):
            request = client.request("POST", "/api/v1/memories/search", {"query": question})
            ours.append(_ms(lambda request=request: _whole(client.send(request))))  # type: ignore[misc]
            raw.append(_ms(lambda vector=vector: collection.query(query_embeddings=[vector], n_results=10)))  # type: ignore[misc]
            if n < FILTERED:
                filtered.append(
                    _ms(lambda vector=vector: collection.query(query_embeddings=[vector], n_results=10, where=ONLY))  # type: ignore[misc]
                )
        return Times.of(ours), Times.of(raw), Times.of(filtered)

    def raw_insert(self, texts: Sequence[str]) -> float:
        """Vectors of these texts that Chroma alone takes in a second, into a graph like ours."""
        alone = self.chroma.create_collection("raw", embedding_function=None, configuration=GRAPH)
        vectors = Hashed().embed(texts)
        began = time.perf_counter()
        for start in range(0, len(texts), UPSERT):
            some = vectors[start : start + UPSERT]
            keys = [str(n) for n in range(start, start + len(some))]
            alone.upsert(ids=keys, embeddings=np.asarray(some), metadatas=[{"owner": OWNER}] * len(some))
        rate = len(texts) / (time.perf_counter() - began)
        self.chroma.delete_collection("raw")
        return rate


def _chroma_url(where: Stack) -> str:
    with open(os.path.join(where.env["CLAWQ_HOME"], "stack.env"), encoding="utf-8") as file:
        told = dict(line.rstrip().split("=", 1) for line in file)
    return told["VECTOR_DB_URL"].strip("'")


def _semantic(text: str) -> dict[str, str]:
    return {"memory_type": "semantic", "content": text}


def _parts(texts: Sequence[str], size: int) -> list[Sequence[str]]:
    return [texts[start : start + size] for start in range(0, len(texts), size)]


def _ms(action: Callable[[], object]) -> float:
    began = time.perf_counter()
    action()
    return (time.perf_counter() - began) * 1000


def _whole(answer: bytes) -> None:
    if json.loads(answer)["degraded"]:
        raise RuntimeError(answer[:500].decode())


def main() -> None:
    """Measure, and print Markdown."""
    texts = sentences(max(SIZES) + RAW)
    with stack() as where:
        memories = Memories(where)
        raw_rate = memories.raw_insert(texts[-RAW:])
        rows = []
        for size in SIZES:
            accepted, indexed = memories.grow(texts[memories.count : size])
            asked = questions(texts[:size], SEARCHES, seed=size)
            memories.search(asked[:20])
            rows.append(Row(size, accepted, indexed, *memories.search(asked)))
            print(f"{size} done", file=sys.stderr)
        _print(rows, raw_rate)
        _print_costs(where)


def _print(rows: Sequence[Row], raw_rate: float) -> None:
    print(
        "| memories | accepted/s | indexed/s | search p50 / p95, ms | Chroma alone | with a filter by owner | ratio |"
    )
    print("| ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for row in rows:
        times = " | ".join(f"{times.p50:.1f} / {times.p95:.1f}" for times in (row.search, row.raw, row.filtered))
        ratio = row.search.p50 / row.raw.p50
        print(f"| {row.memories:,} | {row.accepted_s:,.0f} | {row.indexed_s:,.0f} | {times} | {ratio:.2f} |")
    print(f"\nChroma alone takes {raw_rate:,.0f} vectors a second.")
    show(
        Aim(f"search over HTTP ÷ Chroma alone, {row.memories:,} memories", row.search.p50 / row.raw.p50, MOST_TIMES_RAW)
        for row in rows
    )


def _print_costs(where: Stack) -> None:
    print("\n| | " + " | ".join(ROLES) + " |\n| --- |" + " ---: |" * len(ROLES))
    families = [_family(where.pids[role]) for role in ROLES]
    cpu = [sum(sum(p.cpu_times()[:2]) for p in family) for family in families]
    print("| CPU, s | " + " | ".join(f"{seconds:.0f}" for seconds in cpu) + " |")
    # Of Postgres' processes most is shared, so only the others say what they are.
    rss = [family[0].memory_info().rss / 2**20 for family in families]
    print("| RSS, MiB | " + " | ".join(f"{mib:.0f}" for mib in rss) + " |")


def _family(pid: int) -> list[psutil.Process]:
    process = psutil.Process(pid)
    return [process, *process.children(recursive=True)]


if __name__ == "__main__":
    main()
