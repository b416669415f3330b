"""Every test here has Postgres, Redis and Chroma, all empty."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def _services(memory: pytest.MonkeyPatch) -> None:
    """The same for all."""
