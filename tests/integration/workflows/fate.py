"""A task type that ends as its payload says."""

from __future__ import annotations

from collections import Counter
from typing import Any

from pydantic import RootModel

from app.tasks.claim import Claim


class Fate(RootModel[dict[str, Any]]):
    """Whatever a test wants of its task."""


def meet(claim: Claim) -> dict[str, Any]:
    """Fail if `fail`; fail the first `fail_first` times."""
    payload = claim.payload
    if payload.get("fail"):
        raise ValueError("as asked")
    if payload.get("fail_first", 0) > met[payload.get("name", "")]:
        met[payload.get("name", "")] += 1
        raise ValueError("not yet")
    return {"answer": payload.get("answer")}


#: How often each name has failed.
met: Counter[str] = Counter()
