"""Group chats: named sets of agents; a message to one reaches every member (app/messages/)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, select, text
from sqlalchemy.orm import Session

from app import cursors
from app.errors import Conflict, NotFound, Problem
from schema.base import new_id
from schema.groupchats import GroupChat

# Held, so that none of them is deleted before we refer to it.
_AGENTS = text("SELECT id FROM agents WHERE id = ANY(:ids) ORDER BY id FOR KEY SHARE")
_REFERRED = text("SELECT EXISTS (SELECT FROM messages WHERE groupchat_id = :id)")


@dataclass(frozen=True, kw_only=True)
class Filter:
    """Which group chats to list. None: any."""

    owner: str | None = None
    status: str | None = None
    name: str | None = None


def create(db: Session, owner: str, **values: Any) -> GroupChat:
    """Make a group chat. `values` are its columns. Raises NotFound for a member that does not exist."""
    _check_members(db, values["agents"])
    chat = GroupChat(id=new_id(), owner=owner, **values)
    db.add(chat)
    db.flush()
    db.refresh(chat)
    return chat


def get(db: Session, groupchat_id: str, owner: str | None, *, hold: bool = False) -> GroupChat:
    """The group chat, if `owner` may see it (None: whoever owns it). With `hold`, nobody changes it until commit.

    Raises:
        NotFound: there is none, or it is another owner's.
    """
    query = select(GroupChat).where(GroupChat.id == groupchat_id)
    if owner is not None:
        # Here, not afterwards: another owner's row is neither waited for nor held.
        query = query.where(GroupChat.owner == owner)
    if hold:
        query = query.with_for_update().execution_options(populate_existing=True)
    chat = db.scalars(query).one_or_none()
    if chat is None:
        raise NotFound(f"No group chat {groupchat_id}.")
    return chat


def update(db: Session, groupchat_id: str, owner: str | None, **values: Any) -> GroupChat:
    """Change columns of a group chat. Raises NotFound, also for a member that does not exist."""
    chat = get(db, groupchat_id, owner)
    _check_members(db, values.get("agents", ()))
    for column, value in values.items():
        setattr(chat, column, value)
    chat.updated_at = func.now()
    db.flush()
    db.refresh(chat)
    return chat


def delete(db: Session, groupchat_id: str, owner: str | None) -> None:
    """Remove a group chat that nothing was posted to. Raises NotFound, or Conflict if something was."""
    chat = get(db, groupchat_id, owner, hold=True)
    if db.execute(_REFERRED, {"id": groupchat_id}).scalar_one():
        raise Conflict("There are messages in this group chat; close it instead.")
    db.delete(chat)


def find(db: Session, wanted: Filter, cursor: str | None, limit: int) -> tuple[list[GroupChat], str | None]:
    """A page of group chats, newest first, and the cursor of the next. Raises Invalid for a foreign cursor."""
    query = select(GroupChat)
    for column, value in vars(wanted).items():
        if value is not None:
            query = query.where(getattr(GroupChat, column) == value)
    rows = list(db.scalars(cursors.after(query, GroupChat.created_at, GroupChat.id, cursor, limit)))
    return cursors.page(rows, limit)


def _check_members(db: Session, agents: Sequence[str]) -> None:
    known = set(db.execute(_AGENTS, {"ids": list(agents)}).scalars()) if agents else set()
    missing = [Problem(("agents", place), f"no agent {one}") for place, one in enumerate(agents) if one not in known]
    if missing:
        raise NotFound("A member does not exist.", problems=missing)
