"""Memories: remember, find, change and forget. They are their owner's alone, whatever a key allows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy.orm import Session

from api.endpoints import PREFIX, Reply, Section
from api.payloads.memories import (
    MemoryBatchIn,
    MemoryBatchOut,
    MemoryDocumentPage,
    MemoryHistory,
    MemoryImportIn,
    MemoryImportOut,
    MemoryListQuery,
    MemoryPage,
    MemoryPatchIn,
    MemoryVersionOut,
    ScopeQuery,
    StoredMemoryOut,
)
from app.db import statements
from app.errors import ClawqError, Invalid, NotFound, Problem
from app.keys import Caller
from app.memory import consolidate, find, forget, search, store, transfer, update
from app.memory.answers import ConsolidatedOut, ForgottenOut, FoundOut, MemoryOut, StoredOut
from app.memory.payloads import ConsolidatePayload, ForgetPayload, SearchPayload, StorePayload

section = Section("Memories")


@section.route(
    "POST",
    "/memories",
    scope="submit",
    answers={201: StoredMemoryOut, 200: StoredMemoryOut},
    creates=True,
    refers=True,
)
def store_memory(db: Session, caller: Caller, body: StorePayload) -> Reply:
    """Remember a text.

    201: it is a new memory. 200: another one holds it now, as `result` says. Searches find it from now on.
    """
    try:
        (stored,) = store.store(db, caller.owner, [body.to_new_memory()], near=body.on_near_duplicate)
    except (Invalid, NotFound) as exc:
        # There is one, so its index says nothing.
        raise _moved(exc, [Problem(p.loc[1:], p.msg) for p in exc.problems]) from None
    shown = MemoryOut.model_validate(find.get(db, caller.owner, stored.id))
    told = StoredMemoryOut(**shown.__dict__ | StoredOut.of(stored).__dict__)
    return Reply(told, 201 if stored.result == "created" else 200, location=f"{PREFIX}/memories/{stored.id}")


@section.route("POST", "/memories/batch", scope="submit", answers={201: MemoryBatchOut}, creates=True, refers=True)
def store_memories(db: Session, caller: Caller, body: MemoryBatchIn) -> Reply:
    """Remember up to 1000 texts, all or none."""
    new = [memory.to_new_memory() for memory in body.memories]
    try:
        stored = store.store(db, caller.owner, new, near=body.on_near_duplicate)
    except (Invalid, NotFound) as exc:
        raise _moved(exc, [Problem(("memories", *p.loc), p.msg) for p in exc.problems]) from None
    return Reply(MemoryBatchOut.model_validate({"items": [_told(one) for one in stored]}), 201)


@section.route("GET", "/memories", scope="read", answers={200: MemoryPage})
def list_memories(db: Session, caller: Caller, query: MemoryListQuery) -> Reply:
    """List memories, the newest first."""
    found, next_cursor = find.find(db, query.wanted(caller.owner, status=query.status), query.cursor, query.limit)
    return Reply(MemoryPage(items=[MemoryOut.model_validate(row) for row in found], next_cursor=next_cursor))


@section.route("POST", "/memories/search", scope="read", answers={200: FoundOut})
def search_memories(caller: Caller, body: SearchPayload) -> Reply:
    """Find the memories that fit a question best, by meaning and by words.

    `degraded` says that a part was away, so that something may be missing; the rest answers all the same.
    """
    with statements() as db:
        found = search.search(db, body.to_wanted(caller.owner), body.query, limit=body.limit, mode=body.mode)
    return Reply(FoundOut.of(found, explain=body.explain))


@section.route("POST", "/memories/forget", scope="submit", answers={200: ForgottenOut})
def forget_memories(db: Session, caller: Caller, body: ForgetPayload) -> Reply:
    """Forget memories for good: by their ids, or all of a scope, a thousand at a time.

    A scope counts whatever the status. Ids that are not there are passed over.
    """
    if body.ids is not None:
        return Reply(ForgottenOut(forgotten=len(forget.forget(db, caller.owner, body.ids)), more=False))
    gone = forget.forget_all(db, body.to_wanted(caller.owner), forget.BATCH)
    return Reply(ForgottenOut(forgotten=len(gone), more=len(gone) >= forget.BATCH))


@section.route("POST", "/memories/consolidate", scope="submit", answers={200: ConsolidatedOut})
def consolidate_memories(db: Session, caller: Caller, body: ConsolidatePayload) -> Reply:
    """Merge memories of the same scope that say nearly the same.

    What is merged is kept, linked to the one that stands, and found by its id alone.
    """
    done = consolidate.consolidate(
        db, body.to_wanted(caller.owner), threshold=body.threshold, limit=body.limit, dry_run=body.dry_run
    )
    return Reply(ConsolidatedOut.of(done))


@section.route("GET", "/memories/export", scope="read", answers={200: MemoryDocumentPage})
def export_memories(db: Session, caller: Caller, query: ScopeQuery) -> Reply:
    """Export memories whole: with their history, links and uses, whatever their status."""
    wanted = query.wanted(caller.owner, status=None)
    documents, next_cursor = transfer.export(db, wanted, query.cursor, query.limit)
    # What is stored is told as it is, even where it would not be taken.
    return Reply(MemoryDocumentPage.model_construct(items=documents, next_cursor=next_cursor))


@section.route("POST", "/memories/import", scope="submit", answers={201: MemoryImportOut}, creates=True)
def import_memories(db: Session, caller: Caller, body: MemoryImportIn) -> Reply:
    """Import up to 1000 documents of an export, all or none. What is there already stays as it is."""
    try:
        restored = transfer.restore(db, caller.owner, body.memories)
    except Invalid as exc:
        raise _moved(exc, [Problem(("memories", *p.loc), p.msg) for p in exc.problems]) from None
    items = [_told(one) | {"unlinked": one.unlinked} for one in restored]
    return Reply(MemoryImportOut.model_validate({"items": items}), 201)


@section.route("GET", "/memories/<memory_id>", scope="read", answers={200: MemoryOut})
def show_memory(db: Session, caller: Caller, memory_id: str) -> Reply:
    """Show a memory, whatever its status."""
    return Reply(MemoryOut.model_validate(find.get(db, caller.owner, memory_id)))


@section.route(
    "PATCH",
    "/memories/<memory_id>",
    scope="submit",
    answers={200: MemoryOut},
    conflicts="It has another version by now, or its scope has the text already.",
)
def update_memory(db: Session, caller: Caller, memory_id: str, body: MemoryPatchIn) -> Reply:
    """Change a memory; what is left out stays. What it was becomes a version of its history."""
    update.update(db, caller.owner, memory_id, body.changes, body.version)
    return Reply(MemoryOut.model_validate(find.get(db, caller.owner, memory_id)))


@section.route("DELETE", "/memories/<memory_id>", scope="submit", answers={204: None})
def forget_memory(db: Session, caller: Caller, memory_id: str) -> Reply:
    """Forget a memory for good, with its history and what was merged into it."""
    if not forget.forget(db, caller.owner, [memory_id]):
        raise NotFound(f"No memory {memory_id}.")
    return Reply(http_status=204)


@section.route("GET", "/memories/<memory_id>/history", scope="read", answers={200: MemoryHistory})
def show_history(db: Session, caller: Caller, memory_id: str) -> Reply:
    """Show what a memory was before each change, newest first."""
    versions = find.history(db, caller.owner, memory_id)
    return Reply(MemoryHistory(items=[MemoryVersionOut.model_validate(version) for version in versions]))


def _told(one: store.Stored | transfer.Restored) -> dict[str, Any]:
    repeated = one.id if one.result == "duplicate_of" else None
    return {"id": one.id, "result": one.result, "duplicate_of": repeated}


def _moved(exc: ClawqError, problems: Sequence[Problem]) -> ClawqError:
    return type(exc)(exc.detail, problems=problems)
