"""What an embedder is, and how it fails."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from app.errors import ClawqError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Vectors = NDArray[np.float32]

#: Numbers of the longest vector that `memory.embedding` holds.
MOST_DIMENSIONS = 1536
#: Characters of the longest name; the column's width.
_MOST_NAME = 255


class EmbedderAway(ClawqError):
    """The embedding service does not answer now. The same text may be embedded later."""

    code = "embedder_away"
    http_status = 503


class EmbedderRefuses(EmbedderAway):
    """The embedding service answers, but not what the settings ask for: one of the two has to change."""

    code = "embedder_refuses"


class Unembeddable(ClawqError):
    """This text can never be embedded."""

    code = "unembeddable"
    http_status = 422


class Embedder(Protocol):
    """Makes vectors of texts. Threads share one."""

    @property
    def name(self) -> str:
        """All that its vectors depend on, in at most 255 characters: equal names, comparable vectors."""
        ...

    @property
    def dimensions(self) -> int:
        """Numbers in a vector, at most 1536."""
        ...

    @property
    def at_hand(self) -> int:
        """How many texts it may embed while a search waits, besides the query."""
        ...

    def embed(self, texts: Sequence[str]) -> Vectors:
        """One row of unit length for each text, also for an empty one. The same text makes the same vector.

        Raises:
            EmbedderAway: try later.
            Unembeddable: one of the texts never works.
        """
        ...


def unit(rows: Vectors) -> Vectors:
    """Rows scaled to unit length. One that points nowhere becomes the first axis."""
    import numpy as np

    rows = np.array(rows, dtype=np.float32)
    lengths = np.linalg.norm(rows.astype(np.float64), axis=1)
    nowhere = lengths == 0
    rows[nowhere] = 0
    rows[nowhere, 0] = 1
    lengths[nowhere] = 1
    scaled: Vectors = (rows / lengths[:, None]).astype(np.float32)
    return scaled


def fitted(name: str) -> str:
    """A name that fits its column: what is too long ends in its hash."""
    if len(name) <= _MOST_NAME:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:16]
    return f"{name[: _MOST_NAME - 17]}:{digest}"
