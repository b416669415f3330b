"""Every test here has Postgres, Redis and Chroma, all empty."""

from __future__ import annotations

import pytest

from tests.integration.memory.hands import Stub
from workers import indexing


@pytest.fixture(autouse=True)
def _services(memory: pytest.MonkeyPatch) -> None:
    """The same for all."""


@pytest.fixture
def stub(memory: pytest.MonkeyPatch) -> Stub:
    """The embedder that indexers and searches use."""
    made = Stub()
    memory.setattr(indexing, "embedder", lambda: made)
    return made
