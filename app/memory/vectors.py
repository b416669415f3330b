"""Vectors on their way to Postgres and back: `memory.embedding` holds 1536 numbers, filled up with zeros."""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from app.embeddings.base import MOST_DIMENSIONS, Embedder

if TYPE_CHECKING:
    from app.embeddings.base import Vectors

#: `array_send` of a real[] without NULLs: a header, then for each number its size and itself, big-endian.
_HEADER_BYTES = 20
_NUMBER = np.dtype([("size", ">i4"), ("value", ">f4")])
#: A real has seven digits, and no number of a vector of unit length exceeds one.
_DECIMALS = 7
_MOST_KEPT = 1024


def to_text(vector: Vectors) -> str:
    """A vector as Postgres reads a real[]."""
    numbers = vector.astype(np.float64).round(_DECIMALS).tolist()
    return "{" + json.dumps(numbers + [0] * (MOST_DIMENSIONS - len(numbers)))[1:-1] + "}"


def from_bytes(sent: bytes | memoryview, dimensions: int) -> Vectors:
    """A vector from `array_send(CAST(embedding AS real[]))`."""
    numbers = np.frombuffer(sent, dtype=_NUMBER, offset=_HEADER_BYTES)["value"]
    return numbers[:dimensions].astype(np.float32)


class Kept:
    """The vectors of texts that searches met before the indexer did, the latest few."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[str, bytes], Vectors] = OrderedDict()
        self._lock = threading.Lock()

    def embed(self, embedder: Embedder, texts: Sequence[tuple[bytes, str]]) -> list[Vectors]:
        """The vectors of texts, given with their SHA-256. Raises as `embedder.embed` does."""
        keys = [(embedder.name, sha256) for sha256, _ in texts]
        with self._lock:
            found = {key: self._kept[key] for key in keys if key in self._kept}
        missing = [(key, content) for key, (_, content) in zip(keys, texts, strict=True) if key not in found]
        if missing:
            made = embedder.embed([content for _, content in missing])
            found |= {key: vector for (key, _), vector in zip(missing, made, strict=True)}
            with self._lock:
                self._kept.update({key: found[key] for key, _ in missing})
                while len(self._kept) > _MOST_KEPT:
                    self._kept.popitem(last=False)
        return [found[key] for key in keys]
