"""The index of memories: how far it follows, a new one, and whether it is right."""

from __future__ import annotations

from typing import Any

from sqlalchemy.orm import Session

from api.endpoints import Reply, Section
from api.payloads.memory_index import IndexFailureOut, IndexOut, MemoryIndexOut, VerifiedOut, VerifyIn
from app.db import Db, single, statements
from app.embeddings.choose import embedder
from app.errors import Conflict, SettingsError
from app.keys import Caller
from app.memory import generations, index
from app.memory.verify import verify
from schema.memories import IndexStatus

section = Section("Memories")


@section.route("GET", "/memories/index", scope="read", answers={200: MemoryIndexOut})
def show_index(db: Session, caller: Caller) -> Reply:
    """Show how far the index of memories follows."""
    return Reply(_shown(db, caller.owner))


@section.route(
    "POST",
    "/memories/index/rebuild",
    scope="admin",
    answers={202: MemoryIndexOut},
    conflicts="One is being built already.",
)
def rebuild_index(db: Session, caller: Caller) -> Reply:
    """Build the index anew, with the embedder of the settings, beside the one that searches go on asking.

    It takes that one's place once nothing is pending for it.
    """
    if generations.start(db, embedder()) is None:
        raise Conflict("A new index is being built already.")
    return Reply(_shown(db, caller.owner), 202)


@section.route(
    "POST",
    "/memories/index/verify",
    scope="admin",
    answers={200: VerifiedOut},
    conflicts="There is no index yet, or it has been lost and is made anew.",
)
def verify_index(body: VerifyIn) -> Reply:
    """Compare the index with Postgres, and with `repair` set right what differs."""
    with single() as db:
        serving = _active(db)
    try:
        # This takes long, and no transaction waits for it.
        keys = [key for page in index.keys(serving.collection) for key in page]
        with statements() as db:
            return Reply(VerifiedOut.model_validate(verify(db, serving, keys, repair=body.repair)))
    except index.IndexLost:
        raise Conflict("Chroma has lost the index; it is being made anew. Look again in a moment.") from None


def _active(db: Db) -> Any:
    for serving in generations.serving(db):
        if serving.status == IndexStatus.ACTIVE:
            return serving
    raise Conflict("There is no index yet: a memory worker makes it when it starts.")


def _shown(db: Db, owner: str) -> MemoryIndexOut:
    by_status = {row.status: row for row in generations.counts(db)}
    shown = {str(status): row and IndexOut.model_validate(row) for status, row in by_status.items()}
    asked = shown.get(IndexStatus.ACTIVE) or shown.get(IndexStatus.BUILDING)
    return MemoryIndexOut(
        active=shown.get(IndexStatus.ACTIVE),
        building=shown.get(IndexStatus.BUILDING),
        configured=_configured(),
        pending=asked.pending if asked else 0,
        failed=asked.failed if asked else 0,
        lag_s=round(asked.lag_s, 3) if asked else 0.0,
        failures=[IndexFailureOut.model_validate(row) for row in generations.failures(db, owner)],
    )


def _configured() -> str | None:
    try:
        return embedder().name
    except SettingsError:
        return None
