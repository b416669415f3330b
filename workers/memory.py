"""The task types of memory: what the API offers of it, as steps of workflows."""

from __future__ import annotations

from typing import Any

from app.db import statements
from app.memory.answers import ConsolidatedOut, ForgottenOut, FoundOut, StoredOut
from app.memory.consolidate import consolidate as consolidate_memories
from app.memory.forget import BATCH, forget_all
from app.memory.forget import forget as forget_memories
from app.memory.payloads import ConsolidatePayload, ForgetPayload, SearchPayload, StorePayload
from app.memory.search import search as search_memories
from app.memory.store import store as store_memories
from app.tasks.claim import Claim


def store(claim: Claim) -> dict[str, Any]:
    """`memory.store`: remember a text. Another attempt at the same task finds what the first one stored."""
    asked = StorePayload.model_validate(claim.payload)
    with statements() as db:
        (answer,) = store_memories(
            db, claim.owner, [asked.to_new_memory()], near=asked.on_near_duplicate, task_id=claim.id
        )
    return StoredOut.of(answer).model_dump(mode="json")


def search(claim: Claim) -> dict[str, Any]:
    """`memory.search`: memories that fit a question."""
    asked = SearchPayload.model_validate(claim.payload)
    with statements() as db:
        found = search_memories(db, asked.to_wanted(claim.owner), asked.query, limit=asked.limit, mode=asked.mode)
    return FoundOut.of(found, explain=asked.explain).model_dump(mode="json")


def forget(claim: Claim) -> dict[str, Any]:
    """`memory.forget`: forget memories by id, or all of a scope."""
    asked = ForgetPayload.model_validate(claim.payload)
    forgotten, more = 0, True
    while more:
        with statements() as db:
            if asked.ids is not None:
                ids, more = forget_memories(db, claim.owner, asked.ids), False
            else:
                ids = forget_all(db, asked.to_wanted(claim.owner))
                more = len(ids) >= BATCH
        forgotten += len(ids)
    return ForgottenOut(forgotten=forgotten, more=False).model_dump(mode="json")


def consolidate(claim: Claim) -> dict[str, Any]:
    """`memory.consolidate`: merge memories that say nearly the same."""
    asked = ConsolidatePayload.model_validate(claim.payload)
    with statements() as db:
        done = consolidate_memories(
            db, asked.to_wanted(claim.owner), threshold=asked.threshold, limit=asked.limit, dry_run=asked.dry_run
        )
    return ConsolidatedOut.of(done).model_dump(mode="json")
