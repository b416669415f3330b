"""The embedder `openai`: any service that speaks that protocol."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pydantic import SecretStr

from app.errors import SettingsError

if TYPE_CHECKING:
    from app.embeddings.base import Vectors


class OpenAI:
    """A service."""

    name = "openai"
    dimensions = 1536
    at_hand = 0

    def __init__(
        self, base_url: SecretStr | None, key: SecretStr | None, model: str, dimensions: int, *, send_dimensions: bool
    ) -> None:
        raise SettingsError("CLAWQ_EMBEDDING_PROVIDER=openai is not built yet.")

    def embed(self, texts: Sequence[str]) -> Vectors:
        """One row for each text."""
        raise NotImplementedError
