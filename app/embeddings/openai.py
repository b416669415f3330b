"""The embedder `openai`: OpenAI, or any service that speaks the protocol of its `/embeddings`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pydantic import SecretStr

from app.breaker import CircuitBreaker
from app.embeddings.base import EmbedderAway, EmbedderRefuses, Unembeddable, fitted, unit
from app.embeddings.wire import Refused, Wire, vectors_of

if TYPE_CHECKING:
    from app.embeddings.base import Vectors

_OPENAI = "https://api.openai.com/v1"
_BATCH = 128
#: A text that is refused is tried shorter, down to this many characters: models have a longest text each.
_LEAST = 1000
#: No model refuses it, unless it refuses everything.
_PLAIN = "clawq"


class OpenAI:
    """Vectors of a service, asked for in batches. A text that is too long for its model counts by its beginning.

    Args:
        base_url: what `/embeddings` follows; None: OpenAI's own.
        key: sent as a Bearer token, if given.
        dimensions: numbers that a vector must have.
        send_dimensions: whether to ask for that many; some services know no such parameter.
    """

    at_hand = 0

    def __init__(
        self, base_url: SecretStr | None, key: SecretStr | None, model: str, dimensions: int, *, send_dimensions: bool
    ) -> None:
        self.name = fitted(f"openai:{model}:{dimensions}")
        self.dimensions = dimensions
        # Or each search would wait for a service that is away.
        self._breaker = CircuitBreaker()
        self._wire = Wire(base_url.get_secret_value() if base_url else _OPENAI, key)
        self._asked: dict[str, Any] = {"model": model, "encoding_format": "float"}
        if send_dimensions:
            self._asked["dimensions"] = dimensions

    def embed(self, texts: Sequence[str]) -> Vectors:
        """One row for each text. Nothing is asked about a text without anything in it.

        Raises:
            EmbedderAway: the service does not answer in time, or answers nonsense.
            EmbedderRefuses: it does not accept the key, the model or the dimensions.
            Unembeddable: it refuses one of the texts.
        """
        import numpy as np

        rows = np.zeros((len(texts), self.dimensions), dtype=np.float32)
        places = [place for place, text in enumerate(texts) if text.strip()]
        for start in range(0, len(places), _BATCH):
            some = places[start : start + _BATCH]
            rows[some] = self._made([texts[place] for place in some])
        return unit(rows)

    def close(self) -> None:
        """Close the connections to the service."""
        self._wire.close()

    def _made(self, texts: list[str]) -> Vectors:
        try:
            return self._ask(texts)
        except Refused as exc:
            if len(texts) > 1:
                raise Unembeddable(f"The embedding service refuses one of {len(texts)} texts: {exc.detail}") from None
        return self._shortened(texts[0])

    def _shortened(self, text: str) -> Vectors:
        """The vector of as much of the beginning of `text` as the service accepts, by halves."""
        while True:
            text = text[: len(text) // 2]
            if len(text) < _LEAST:
                break
            try:
                return self._ask([text])
            except Refused:
                continue
        try:
            self._ask([_PLAIN])
        except Refused as exc:
            raise EmbedderRefuses(
                f"The embedding service refuses every text: {exc.detail} See CLAWQ_EMBEDDING_MODEL, "
                "CLAWQ_EMBEDDING_DIMENSIONS and CLAWQ_EMBEDDING_SEND_DIMENSIONS."
            ) from None
        raise Unembeddable("The embedding service refuses this text.")

    def _ask(self, texts: list[str]) -> Vectors:
        if not self._breaker.allows():
            raise EmbedderAway("The embedding service did not answer a moment ago.")
        try:
            made = vectors_of(self._wire.post(self._asked | {"input": texts}), len(texts), self.dimensions)
        except EmbedderRefuses:
            raise
        except EmbedderAway:
            self._breaker.failed()
            raise
        self._breaker.succeeded()
        return made
