"""Find: read messages and inboxes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select, text

from app import cursors
from app.db import Db
from app.errors import NotFound
from app.prepared import prepared
from app.tasks.find import weigh
from schema.messages import Message, MessageStatus

#: What is shown of a message.
COLUMNS = """
    id, owner, source_agent_id, destination_agent_id, groupchat_id, post_id, session_id, message_type, content,
    metadata AS details, status, seq, created_at, sent_at, received_at
"""
_GET = prepared("message", f"SELECT {COLUMNS} FROM messages WHERE id = :id")  # noqa: S608
_MANY = text(f"SELECT {COLUMNS} FROM messages WHERE id = ANY(:ids)")  # noqa: S608
_ANY = prepared(
    "inbox_any",
    """
    SELECT EXISTS (SELECT FROM messages WHERE status = 'sent' AND owner = :owner AND destination_agent_id = :agent_id
                   AND seq > :after)
    """,
)
_LARGE = ("content", "details")


@dataclass(frozen=True, kw_only=True)
class Filter:
    """Which messages to list. None: any."""

    owner: str | None = None
    source_agent_id: str | None = None
    destination_agent_id: str | None = None
    groupchat_id: str | None = None
    session_id: str | None = None
    status: str | None = None
    post_id: str | None = None

    @property
    def copies(self) -> bool:
        """Whether copies of posts are meant: without a destination or a post, messages are listed as posted."""
        return self.destination_agent_id is not None or self.post_id is not None


def get(db: Db, message_id: str, owner: str | None) -> Any:
    """The message's row, if `owner` may see it (None: whoever owns it).

    Raises:
        NotFound: there is none, or it is another owner's.
    """
    row = db.execute(_GET, {"id": message_id}).one_or_none()
    if row is None or (owner is not None and row.owner != owner):
        raise NotFound(f"No message {message_id}.")
    return row


def find(db: Db, wanted: Filter, cursor: str | None, limit: int) -> tuple[list[Any], str | None]:
    """A page of messages, newest first, and the cursor of the next page. It ends early where messages are heavy.

    Raises:
        Invalid: the cursor is not one of ours.
    """
    query = select(Message.id, Message.created_at, *(getattr(Message, name) for name in _LARGE))
    for column, value in vars(wanted).items():
        if value is not None:
            query = query.where(getattr(Message, column) == value)
    if not wanted.copies:
        query = query.where(Message.post_id.is_(None))
    query = cursors.after(query, Message.created_at, Message.id, cursor, limit)
    keys, fitting = weigh(db, query, _LARGE, lambda c: (c.created_at.desc(), c.id.desc()), limit)
    page, next_cursor = cursors.page(keys, fitting)
    return _rows(db, [key.id for key in page]), next_cursor


def inbox(db: Db, owner: str, agent_id: str, after: int, limit: int) -> tuple[list[Any], str | None]:
    """What is not acknowledged of an owner's letters to an agent, with seq above `after`, in order.

    Returns:
        A page of it, which ends early where letters are heavy, and the seq to go on from if there are more.
    """
    query = (
        select(Message.id, Message.seq, *(getattr(Message, name) for name in _LARGE))
        .where(Message.owner == owner, Message.destination_agent_id == agent_id)
        .where(Message.status == MessageStatus.SENT, Message.seq > after)
        .order_by(Message.seq)
        .limit(limit + 1)
    )
    keys, fitting = weigh(db, query, _LARGE, lambda c: (c.seq,), limit)
    page = keys[:fitting]
    return _rows(db, [key.id for key in page]), str(page[-1].seq) if len(keys) > fitting else None


def has_letters(db: Db, owner: str, agent_id: str, after: int) -> bool:
    """Whether `inbox` would find anything."""
    return bool(db.execute(_ANY, {"owner": owner, "agent_id": agent_id, "after": after}).scalar_one())


def _rows(db: Db, ids: Sequence[str]) -> list[Any]:
    """The messages with these ids, in this order."""
    rows = {row.id: row for row in db.execute(_MANY, {"ids": list(ids)})} if ids else {}
    return [rows[one] for one in ids if one in rows]
