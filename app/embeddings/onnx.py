"""The embedder `onnx`: a model on disk."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from app.errors import SettingsError

if TYPE_CHECKING:
    from app.embeddings.base import Vectors


class Onnx:
    """A model of sentences."""

    name = "onnx"
    dimensions = 384
    at_hand = 8

    def __init__(self, directory: Path) -> None:
        raise SettingsError("CLAWQ_EMBEDDING_PROVIDER=onnx is not built yet.")

    def embed(self, texts: Sequence[str]) -> Vectors:
        """One row for each text."""
        raise NotImplementedError
