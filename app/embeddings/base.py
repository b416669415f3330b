"""stub"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from app.errors import ClawqError


class EmbedderAway(ClawqError):
    """away"""


class Unembeddable(ClawqError):
    """never"""


class Embedder(Protocol):
    """stub"""

    name: str
    dimensions: int
    at_hand: int

    def embed(self, texts: Sequence[str]) -> Any: ...
