"""Store: remember texts, each once in its scope."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import text

from app.db import Db
from app.errors import Conflict, Invalid, NotFound, Problem
from app.memory import near as near_
from app.memory import outbox
from app.memory.find import get
from app.memory.forget import forget
from app.memory.near import Likeness
from app.memory.references import missing, past
from app.memory.terms import indexed
from app.memory.update import merge, replace, sha256, update
from schema.base import new_id
from schema.memories import MemoryStatus

Policy = Literal["ignore", "report", "merge"]
Result = Literal["created", "duplicate_of", "updated"]

_ACTIVE = text("SELECT id FROM memory WHERE id = ANY(:ids) AND owner = :owner AND status = 'active'")
_OF_TASK = text("SELECT id FROM memory WHERE task_id = :task_id AND owner = :owner")
_SAME = """
    o.owner = :owner AND o.content_sha256 = n.sha256 AND o.memory_type = n.memory_type
    AND o.agent_id IS NOT DISTINCT FROM n.agent_id AND o.session_id IS NOT DISTINCT FROM n.session_id
    AND o.user_id IS NOT DISTINCT FROM n.user_id AND o.status = 'active'
"""
_NEW = """
    unnest(CAST(:ids AS text[]), CAST(:types AS text[]), CAST(:contents AS text[]), CAST(:metadatas AS text[]),
           CAST(:importances AS float8[]), CAST(:ends AS timestamptz[]), CAST(:agents AS text[]),
           CAST(:sessions AS text[]), CAST(:users AS text[]), CAST(:sha256s AS bytea[]), CAST(:terms AS text[]))
    AS n (id, memory_type, content, metadata, importance, expires_at, agent_id, session_id, user_id, sha256, terms)
"""
_EXPIRED = text(f"SELECT o.id FROM {_NEW} JOIN memory o ON {_SAME} AND o.expires_at <= now()")  # noqa: S608
# Sorted, so that two writers of the same texts wait for each other in one order.
_INSERT = text(
    f"""
    INSERT INTO memory (id, owner, memory_type, content, metadata, importance, expires_at, agent_id, session_id,
                        user_id, content_sha256, keywords, task_id)
    SELECT n.id, :owner, n.memory_type, n.content, n.metadata::jsonb, n.importance, n.expires_at, n.agent_id,
           n.session_id, n.user_id, n.sha256, to_tsvector('english', n.terms), :task_id
    FROM {_NEW} ORDER BY n.sha256
    ON CONFLICT (owner, content_sha256, memory_type, agent_id, session_id, user_id) WHERE status = 'active' DO NOTHING
    RETURNING id
    """  # noqa: S608
)
_REPEATED = text(f"SELECT n.id AS asked, o.id FROM {_NEW} JOIN memory o ON {_SAME}")  # noqa: S608


#: Times that the changes of others may come in between.
_ROUNDS = 3


@dataclass(frozen=True, kw_only=True)
class NewMemory:
    """A text to be remembered."""

    memory_type: str
    content: str
    metadata: dict[str, Any] | None = None
    importance: float = 0.5
    expires_at: datetime | None = None
    agent_id: str | None = None
    session_id: str | None = None
    user_id: str | None = None
    #: Ids of active memories in whose place it stands from now on.
    supersedes: Sequence[str] = ()

    @property
    def scope(self) -> tuple[str | None, ...]:
        """What two memories must share to be repeats of each other."""
        return self.memory_type, self.agent_id, self.session_id, self.user_id


@dataclass(frozen=True)
class Stored:
    """What became of a text: `id` is the memory that holds it now."""

    id: str
    result: Result
    #: Those that say nearly the same, nearest first; None: not looked for, or the index does not answer.
    near: Sequence[Likeness] | None = field(default=None)


def store(
    db: Db, owner: str, memories: Sequence[NewMemory], *, near: Policy = "ignore", task_id: str | None = None
) -> list[Stored]:
    """Remember texts, all or none. An exact repeat in the same scope is remembered once, as it was first.

    Args:
        near: what is done about texts of the same scope that say nearly the same: nothing, tell, or put the new text
            in the place of the nearest one, whose older text becomes a version.
        task_id: the task that asks; when it asks again, the memory is found again.

    Raises:
        Invalid: a text would have expired already.
        NotFound: an agent, a session or a memory that is superseded does not exist, or is another owner's.
        Conflict: a text is stored and forgotten by others at the same time, again and again.
    """
    if task_id and (found := db.execute(_OF_TASK, {"task_id": task_id, "owner": owner}).scalar()):
        return [Stored(found, "created")]
    _check(db, owner, memories)
    likenesses = near_.look(db, owner, memories) if near != "ignore" else [None] * len(memories)
    outbox.hold(db)
    results: dict[int, Stored] = {}
    if near == "merge":
        results = _merge(db, owner, memories, likenesses)
    rest = [place for place in range(len(memories)) if place not in results]
    stored = _insert(db, owner, [memories[place] for place in rest], task_id)
    results |= {
        place: Stored(memory_id, result, likenesses[place])
        for place, (memory_id, result) in zip(rest, stored, strict=True)
    }
    for place, memory in enumerate(memories):
        if others := [other for other in memory.supersedes if other != results[place].id]:
            replace(db, owner, others, results[place].id, MemoryStatus.SUPERSEDED)
    return [results[place] for place in range(len(memories))]


def _check(db: Db, owner: str, memories: Sequence[NewMemory]) -> None:
    asked = {one for memory in memories for one in memory.supersedes}
    known = set(db.execute(_ACTIVE, {"ids": list(asked), "owner": owner}).scalars()) if asked else set()
    if late := past(db, {place: memory.expires_at for place, memory in enumerate(memories)}):
        raise Invalid("What is stored must not have expired.", problems=late)
    problems = missing(db, owner, memories) + [
        Problem((place, "supersedes"), f"there is no active memory {one}")
        for place, memory in enumerate(memories)
        for one in memory.supersedes
        if one not in known
    ]
    if problems:
        raise NotFound("Something that is referred to does not exist.", problems=problems)


def _merge(
    db: Db, owner: str, memories: Sequence[NewMemory], likenesses: Sequence[Sequence[Likeness] | None]
) -> dict[int, Stored]:
    merged = {}
    for place, (memory, found) in enumerate(zip(memories, likenesses, strict=True)):
        for likeness in found or ():
            if _merge_into(db, owner, likeness.id, memory):
                merged[place] = Stored(likeness.id, "updated", found)
                break
    return merged


def _merge_into(db: Db, owner: str, memory_id: str, memory: NewMemory) -> bool:
    """Whether that was possible. What others change meanwhile is merged with, not overwritten."""
    for _ in range(_ROUNDS):
        try:
            old = get(db, owner, memory_id)
            update(db, owner, memory_id, merge(old, vars(memory)), version=old.version)
        except NotFound:
            return False
        except Conflict:
            # Another version by now; or the text itself is remembered elsewhere in the scope, an exact repeat.
            continue
        return True
    return False


def _insert(db: Db, owner: str, memories: Sequence[NewMemory], task_id: str | None) -> list[tuple[str, Result]]:
    ids = [new_id() for _ in memories]
    params: dict[str, Any] = {
        "owner": owner,
        "task_id": task_id,
        "ids": ids,
        "types": [m.memory_type for m in memories],
        "contents": [m.content for m in memories],
        "metadatas": [None if m.metadata is None else json.dumps(m.metadata) for m in memories],
        "importances": [m.importance for m in memories],
        "ends": [m.expires_at for m in memories],
        "agents": [m.agent_id for m in memories],
        "sessions": [m.session_id for m in memories],
        "users": [m.user_id for m in memories],
        "sha256s": [sha256(m.content) for m in memories],
        "terms": [indexed(m.content) for m in memories],
    }
    if not memories:
        return []
    if expired := list(db.execute(_EXPIRED, params).scalars()):
        forget(db, owner, expired)
    created = set(db.execute(_INSERT, params).scalars())
    outbox.queue(db, [one for one in ids if one in created])
    if len(created) == len(memories):
        return [(one, "created") for one in ids]
    # What was in the way has been committed by now; it may be gone again, but hardly twice.
    repeated = {row.asked: row.id for row in db.execute(_REPEATED, params)}
    if lost := [one for one in ids if one not in repeated]:
        raise Conflict(f"{len(lost)} texts were stored and forgotten by others just now; try again.")
    return [(one, "created") if one in created else (repeated[one], "duplicate_of") for one in ids]
