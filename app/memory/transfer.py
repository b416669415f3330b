"""Transfer: memories as documents, out of one stack and into another, or into the same one again."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from sqlalchemy import text

from app import cursors
from app.db import Db
from app.errors import Conflict, Invalid
from app.memory import outbox
from app.memory.document import MemoryDocument
from app.memory.forget import forget
from app.memory.references import missing
from app.memory.terms import indexed
from app.memory.update import sha256
from app.memory.wanted import Wanted
from app.moments import rfc3339
from schema.base import new_id

#: A page ends before its texts, older ones included, are larger than this; one document there always is.
MOST_BYTES = 4 * 2**20
#: Times that the writes of others may come in between.
_ROUNDS = 3
#: Under which an id that another owner has becomes one of this owner's, the same one each time.
_FRESH = uuid.UUID("5a9e8c5e-6b0c-4b9b-9d5e-0d7d4a1c2f3b")

_SIZE = "octet_length({0}.content) + coalesce(octet_length({0}.metadata::text), 0)"
_KEYS = f"""
    SELECT m.id, m.created_at, {_SIZE.format("m")} + coalesce(
               (SELECT sum({_SIZE.format("v")}) FROM memory_versions v WHERE v.memory_id = m.id), 0) AS bytes
    FROM memory m WHERE {{condition}} ORDER BY m.created_at DESC, m.id DESC LIMIT :limit
"""  # noqa: S608
# In one statement, so that a change in the middle is either in both or in neither.
_DOCUMENTS = text(
    """
    SELECT m.id, m.memory_type, m.content, m.metadata, m.importance, m.agent_id, m.session_id, m.user_id, m.status,
           m.replaced_by, m.version, m.created_at, m.updated_at, m.expires_at, coalesce(u.uses, 0) AS uses, u.used_at,
           (SELECT coalesce(jsonb_agg(to_jsonb(v) - 'memory_id' ORDER BY v.version DESC), '[]')
            FROM memory_versions v WHERE v.memory_id = m.id) AS history
    FROM memory m LEFT JOIN memory_uses u ON u.memory_id = m.id WHERE m.id = ANY(:ids) AND m.owner = :owner
    """
)


def export(db: Db, wanted: Wanted, cursor: str | None, limit: int) -> tuple[list[MemoryDocument], str | None]:
    """A page of documents, newest first, and the cursor of the next. It ends early where memories are large.

    Raises:
        Invalid: the cursor is not one of ours, or the filter is not acceptable.
    """
    condition, params = cursors.narrowed(*wanted.where(), cursor)
    keys = list(db.execute(text(_KEYS.format(condition=condition)), params | {"limit": limit + 1}))
    page, next_cursor = cursors.page(keys, min(limit, _fitting(key.bytes for key in keys)))
    asked = {"ids": [key.id for key in page], "owner": wanted.owner}
    documents = {row.id: MemoryDocument.of(row) for row in db.execute(_DOCUMENTS, asked)}
    return [documents[key.id] for key in page if key.id in documents], next_cursor


def _fitting(sizes: Iterable[int]) -> int:
    total, count = 0, 0
    for size in sizes:
        total += size
        if count and total > MOST_BYTES:
            break
        count += 1
    return count or 1


@dataclass(frozen=True)
class Restored:
    """What became of a document: `id` is the memory that holds it now."""

    id: str
    result: Literal["created", "duplicate_of"]
    #: What is in its place is not here (yet). Restoring it again later links it.
    unlinked: bool = False


_KNOWN = text("SELECT id, owner = :owner AS own FROM memory WHERE id = ANY(:ids)")
_NEW = """
    jsonb_to_recordset(CAST(:rows AS jsonb)) AS n (
        id text, memory_type text, content text, metadata jsonb, importance float8, agent_id text, session_id text,
        user_id text, status text, version int, created_at timestamptz, updated_at timestamptz, expires_at timestamptz,
        sha256 text, terms text)
"""
_SAME_TEXT = text(
    f"""
    SELECT n.id AS asked, o.id, coalesce(o.expires_at <= now(), false) AS expired
    FROM {_NEW} JOIN memory o
        ON o.owner = :owner AND o.content_sha256 = decode(n.sha256, 'hex') AND o.memory_type = n.memory_type
       AND o.agent_id IS NOT DISTINCT FROM n.agent_id AND o.session_id IS NOT DISTINCT FROM n.session_id
       AND o.user_id IS NOT DISTINCT FROM n.user_id AND o.status = 'active' AND o.id <> n.id
    WHERE n.status = 'active'
    """  # noqa: S608
)
# Sorted, so that two writers of the same texts wait for each other in one order.
_INSERT = text(
    f"""
    INSERT INTO memory (id, owner, memory_type, content, metadata, importance, agent_id, session_id, user_id, status,
                        version, created_at, updated_at, expires_at, content_sha256, keywords)
    SELECT n.id, :owner, n.memory_type, n.content, n.metadata, n.importance, n.agent_id, n.session_id, n.user_id,
           n.status, n.version, coalesce(n.created_at, now()), coalesce(n.updated_at, n.created_at, now()),
           n.expires_at, decode(n.sha256, 'hex'), to_tsvector('english', n.terms)
    FROM {_NEW} ORDER BY n.sha256, n.id
    ON CONFLICT DO NOTHING RETURNING id
    """  # noqa: S608
)
_INSERT_VERSIONS = text(
    """
    INSERT INTO memory_versions (memory_id, version, memory_type, content, metadata, importance, expires_at, status,
                                 replaced_by, updated_at, replaced_at)
    SELECT memory_id, version, memory_type, content, metadata, importance, expires_at, status, replaced_by, updated_at,
           replaced_at
    FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS n (
        memory_id text, version int, memory_type text, content text, metadata jsonb, importance float8,
        expires_at timestamptz, status text, replaced_by text, updated_at timestamptz, replaced_at timestamptz)
    """
)
_INSERT_USES = text(
    """
    INSERT INTO memory_uses (memory_id, uses, used_at)
    SELECT id, uses, coalesce(used_at, now())
    FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS n (id text, uses int, used_at timestamptz)
    """
)
_LINK = text(
    """
    UPDATE memory m SET replaced_by = n.target
    FROM unnest(CAST(:ids AS text[]), CAST(:versions AS int[]), CAST(:targets AS text[])) AS n (id, version, target)
    WHERE m.id = n.id AND m.owner = :owner AND m.version = n.version AND m.status <> 'active' AND m.replaced_by IS NULL
    """
)


def restore(db: Db, owner: str, documents: Sequence[MemoryDocument]) -> list[Restored]:
    """Write documents as this owner's memories, all or none. What is there already stays as it is.

    An id that another owner has becomes a fresh one, the same each time.

    Raises:
        Invalid: an agent or a session does not exist, or is another owner's; `loc` starts with the index.
        Conflict: the same memories are written by others at the same time, again and again.
    """
    if problems := missing(db, owner, documents):
        raise Invalid("Something that is referred to does not exist.", problems=problems)
    outbox.hold(db)
    found: dict[int, Restored] = {}
    for _ in range(_ROUNDS):
        if left := {place: document for place, document in enumerate(documents) if place not in found}:
            found |= _write(db, owner, left)
    if len(found) < len(documents):
        raise Conflict("The same memories are written by others just now; try again.")
    restored = [found[place] for place in range(len(documents))]
    new_ids = {document.id: one.id for document, one in zip(documents, restored, strict=True) if document.id}
    created = [(one.id, document) for document, one in zip(documents, restored, strict=True) if one.result == "created"]
    _write_rest(db, created, new_ids)
    outbox.queue(db, [memory_id for memory_id, _ in created])
    return _link(db, owner, documents, restored, new_ids)


def _write(db: Db, owner: str, documents: Mapping[int, MemoryDocument]) -> dict[int, Restored]:
    """Write those that can be written now; the answer leaves out those that the writes of others came before."""
    places = _places(db, owner, [document.id for document in documents.values() if document.id])
    found = {n: Restored(places.here[d.id], "duplicate_of") for n, d in documents.items() if d.id in places.here}
    new: dict[str, int] = {}
    for n, document in documents.items():
        if n not in found:
            # One that comes twice in a request is written as it comes first, and then it is here.
            new.setdefault(places.for_new(document.id), n)
    rows = {"owner": owner, "rows": json.dumps([_row(documents[n], memory_id) for memory_id, n in new.items()])}
    same = db.execute(_SAME_TEXT, rows).all()
    forget(db, owner, [row.id for row in same if row.expired])
    found |= {new[row.asked]: Restored(row.id, "duplicate_of") for row in same if not row.expired}
    created = set(db.execute(_INSERT, rows).scalars())
    found |= {n: Restored(memory_id, "created") for memory_id, n in new.items() if memory_id in created}
    return found


@dataclass(frozen=True)
class _Places:
    """Which memory of an owner stands for an id of a document."""

    #: Id of a document → the owner's memory.
    here: dict[str, str]
    #: Ids that another owner has → what they become here.
    taken: dict[str, str]

    def for_new(self, asked: str | None) -> str:
        """The id of a memory that is not here yet."""
        return new_id() if asked is None else self.taken.get(asked, asked)


def _places(db: Db, owner: str, asked: Sequence[str]) -> _Places:
    fresh = {one: str(uuid.uuid5(_FRESH, f"{owner}\n{one}")) for one in asked}
    params = {"ids": [*fresh, *fresh.values()], "owner": owner}
    own = {row.id: row.own for row in db.execute(_KNOWN, params)} if asked else {}
    here = {one: name for one in fresh for name in (fresh[one], one) if own.get(name)}
    # Another owner may have what would be fresh, too.
    taken = {one: new_id() if name in own else name for one, name in fresh.items() if one in own}
    return _Places(here, taken)


def _row(document: MemoryDocument, memory_id: str) -> dict[str, Any]:
    sums = {"sha256": sha256(document.content).hex(), "terms": indexed(document.content)}
    return document.model_dump(mode="json", exclude={"history", "replaced_by"}) | {"id": memory_id} | sums


def _write_rest(db: Db, created: Sequence[tuple[str, MemoryDocument]], new_ids: Mapping[str, str]) -> None:
    """What other tables hold of new memories."""
    versions = [
        version.model_dump(mode="json")
        | {"memory_id": memory_id, "replaced_by": new_ids.get(version.replaced_by or "", version.replaced_by)}
        for memory_id, document in created
        for version in document.history
    ]
    uses = [
        {"id": memory_id, "uses": document.uses, "used_at": document.used_at and rfc3339(document.used_at)}
        for memory_id, document in created
        if document.uses
    ]
    for statement, rows in ((_INSERT_VERSIONS, versions), (_INSERT_USES, uses)):
        if rows:
            db.execute(statement, {"rows": json.dumps(rows)})


def _link(
    db: Db,
    owner: str,
    documents: Sequence[MemoryDocument],
    restored: Sequence[Restored],
    new_ids: Mapping[str, str],
) -> list[Restored]:
    """Link what stands in the place of others, as far as it is here."""
    here = _places(db, owner, [d.replaced_by for d in documents if d.replaced_by]).here | dict(new_ids)
    answers, links = [], []
    for document, one in zip(documents, restored, strict=True):
        target = here.get(document.replaced_by or "")
        answers.append(replace(one, unlinked=document.replaced_by is not None and target is None))
        if target not in (None, one.id):
            links.append((one.id, document.version, target))
    if links:
        ids, versions, targets = zip(*links, strict=True)
        params = {"ids": list(ids), "versions": list(versions), "targets": list(targets), "owner": owner}
        db.execute(_LINK, params)
    return answers
