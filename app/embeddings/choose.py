"""Which embedder this process uses: the settings say."""

from __future__ import annotations

import threading
from functools import lru_cache
from typing import TYPE_CHECKING

from app.embeddings.base import EmbedderRefuses
from app.errors import SettingsError
from app.settings import Settings, settings

if TYPE_CHECKING:
    from pathlib import Path

    from pydantic import SecretStr

    from app.embeddings.base import Embedder

# One model in memory, also if threads ask for the first time together.
_turn = threading.Lock()


def embedder() -> Embedder:
    """The embedder of the settings, made once a process.

    Raises:
        SettingsError: it cannot be made; the text says what to do.
    """
    chosen = settings()
    with _turn:
        if chosen.embedding_provider == "hash":
            return _hashed()
        if chosen.embedding_provider == "onnx":
            return _onnx(_model_dir(chosen))
        return _openai(
            chosen.embedding_base_url,
            chosen.embedding_api_key,
            chosen.embedding_model,
            chosen.embedding_dimensions,
            chosen.embedding_send_dimensions,
        )


def check(chosen: Embedder) -> None:
    """Embed one text, and see that the vector is what the embedder says.

    Raises:
        SettingsError: it is not, or a service refuses what the settings ask for.
        EmbedderAway: the service does not answer, so that nothing is known.
    """
    try:
        shape = chosen.embed(["clawq"]).shape
    except EmbedderRefuses as exc:
        raise SettingsError(exc.detail) from None
    if shape != (1, chosen.dimensions):
        raise SettingsError(f"The embedder {chosen.name} made {shape[-1]} numbers of a text, not {chosen.dimensions}.")


def _model_dir(chosen: Settings) -> Path:
    if chosen.embedding_model_dir is None:
        raise SettingsError(
            "CLAWQ_EMBEDDING_PROVIDER is onnx, which needs CLAWQ_EMBEDDING_MODEL_DIR: "
            "the directory that holds model.onnx and tokenizer.json."
        )
    return chosen.embedding_model_dir


# Each imports its own libraries, so that nobody loads those of another.
@lru_cache(maxsize=1)
def _hashed() -> Embedder:
    from app.embeddings.hashed import Hashed

    return Hashed()


@lru_cache(maxsize=1)
def _onnx(directory: Path) -> Embedder:
    from app.embeddings.onnx import Onnx

    return Onnx(directory)


@lru_cache(maxsize=1)
def _openai(
    base_url: SecretStr | None, key: SecretStr | None, model: str, dimensions: int, send_dimensions: bool
) -> Embedder:
    from app.embeddings.openai import OpenAI

    return OpenAI(base_url, key, model, dimensions, send_dimensions=send_dimensions)
