"""Sessions: begin, list, show, change, close and remove."""

from __future__ import annotations

from sqlalchemy.orm import Session

from api.endpoints import PREFIX, Reply, Section
from api.payloads.sessions import SessionIn, SessionListQuery, SessionOut, SessionPage, SessionPatchIn
from app import sessions
from app.keys import Caller

section = Section("Sessions")


@section.route("POST", "/sessions", scope="submit", answers={201: SessionOut}, creates=True)
def create_session(db: Session, caller: Caller, body: SessionIn) -> Reply:
    """Begin a session: a conversation that tasks, messages and memories can belong to."""
    session = sessions.create(db, caller.owner, **body.values)
    return Reply(SessionOut.model_validate(session), 201, location=f"{PREFIX}/sessions/{session.id}")


@section.route("GET", "/sessions", scope="read", answers={200: SessionPage})
def list_sessions(db: Session, caller: Caller, query: SessionListQuery) -> Reply:
    """List sessions, the newest first."""
    wanted = sessions.Filter(
        owner=caller.sees, status=query.status, session_type=query.session_type, user_id=query.user_id
    )
    found, next_cursor = sessions.find(db, wanted, query.cursor, query.limit)
    return Reply(SessionPage(items=[SessionOut.model_validate(s) for s in found], next_cursor=next_cursor))


@section.route("GET", "/sessions/<session_id>", scope="read", answers={200: SessionOut})
def show_session(db: Session, caller: Caller, session_id: str) -> Reply:
    """Show a session."""
    return Reply(SessionOut.model_validate(sessions.get(db, session_id, caller.sees)))


@section.route("PATCH", "/sessions/<session_id>", scope="submit", answers={200: SessionOut})
def update_session(db: Session, caller: Caller, session_id: str, body: SessionPatchIn) -> Reply:
    """Change a session; what is left out stays."""
    return Reply(SessionOut.model_validate(sessions.update(db, session_id, caller.sees, **body.values)))


@section.route("POST", "/sessions/<session_id>/close", scope="submit", answers={200: SessionOut})
def close_session(db: Session, caller: Caller, session_id: str) -> Reply:
    """Close a session: it takes nothing new, and what is in it stays. Closing twice is harmless."""
    return Reply(SessionOut.model_validate(sessions.close(db, session_id, caller.sees)))


@section.route(
    "DELETE",
    "/sessions/<session_id>",
    scope="submit",
    answers={204: None},
    conflicts="Tasks, workflows, messages or memories belong to it; close it instead.",
)
def delete_session(db: Session, caller: Caller, session_id: str) -> Reply:
    """Remove a session that nothing belongs to."""
    sessions.delete(db, session_id, caller.sees)
    return Reply(http_status=204)
