"""Keys: what a header must look like."""

from __future__ import annotations

import pytest

from api.auth import bearer
from app.errors import Unauthorized


@pytest.mark.parametrize("header", ["Bearer clawq_1_2", "bearer clawq_1_2", "BEARER  clawq_1_2 "])
def test_the_key_is_what_follows_bearer(header: str) -> None:
    assert bearer(header) == "clawq_1_2"


@pytest.mark.parametrize("header", [None, "", "clawq_1_2", "Bearer", "Bearer ", "Basic clawq_1_2", "Bearerclawq_1_2"])
def test_anything_else_is_no_key(header: str | None) -> None:
    with pytest.raises(Unauthorized):
        bearer(header)
