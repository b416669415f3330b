"""Sessions: users' conversations, which tasks, messages and memories belong to until they are closed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, orm, select, text

from app import cursors
from app.errors import Conflict, NotFound
from schema.base import new_id
from schema.sessions import Session

_REFERRED = text(
    """
    SELECT EXISTS (SELECT FROM tasks WHERE session_id = :id) OR EXISTS (SELECT FROM workflows WHERE session_id = :id)
        OR EXISTS (SELECT FROM messages WHERE session_id = :id) OR EXISTS (SELECT FROM memory WHERE session_id = :id)
    """
)


@dataclass(frozen=True, kw_only=True)
class Filter:
    """Which sessions to list. None: any."""

    owner: str | None = None
    status: str | None = None
    session_type: str | None = None
    user_id: str | None = None


def create(db: orm.Session, owner: str, **values: Any) -> Session:
    """Begin a session. `values` are its columns."""
    session = Session(id=new_id(), owner=owner, **values)
    db.add(session)
    db.flush()
    db.refresh(session)
    return session


def get(db: orm.Session, session_id: str, owner: str | None, *, hold: bool = False) -> Session:
    """The session, if `owner` may see it (None: whoever owns it). With `hold`, nobody changes it until commit.

    Raises:
        NotFound: there is none, or it is another owner's.
    """
    query = select(Session).where(Session.id == session_id)
    if owner is not None:
        # Here, not afterwards: another owner's row is neither waited for nor held.
        query = query.where(Session.owner == owner)
    if hold:
        query = query.with_for_update().execution_options(populate_existing=True)
    session = db.scalars(query).one_or_none()
    if session is None:
        raise NotFound(f"No session {session_id}.")
    return session


def update(db: orm.Session, session_id: str, owner: str | None, **values: Any) -> Session:
    """Change columns of a session. Raises NotFound."""
    session = get(db, session_id, owner)
    for column, value in values.items():
        setattr(session, column, value)
    session.updated_at = func.now()
    db.flush()
    db.refresh(session)
    return session


def close(db: orm.Session, session_id: str, owner: str | None) -> Session:
    """Let a session take nothing new. Closing twice is harmless. Raises NotFound."""
    session = get(db, session_id, owner, hold=True)
    if session.status != "closed":
        session.status, session.closed_at, session.updated_at = "closed", func.now(), func.now()
        db.flush()
        db.refresh(session)
    return session


def delete(db: orm.Session, session_id: str, owner: str | None) -> None:
    """Remove a session that nothing refers to. Raises NotFound, or Conflict if something does."""
    session = get(db, session_id, owner, hold=True)
    if db.execute(_REFERRED, {"id": session_id}).scalar_one():
        raise Conflict("Tasks, workflows, messages or memories belong to this session; close it instead.")
    db.delete(session)


def find(db: orm.Session, wanted: Filter, cursor: str | None, limit: int) -> tuple[list[Session], str | None]:
    """A page of sessions, newest first, and the cursor of the next. Raises Invalid for a foreign cursor."""
    query = select(Session)
    for column, value in vars(wanted).items():
        if value is not None:
            query = query.where(getattr(Session, column) == value)
    rows = list(db.scalars(cursors.after(query, Session.created_at, Session.id, cursor, limit)))
    return cursors.page(rows, limit)
