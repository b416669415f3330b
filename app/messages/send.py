"""Send: accept a message, and a copy for each member if it goes to a group chat. The deliverer is rung after commit."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from sqlalchemy import text

from app import publisher
from app.db import Db, after_commit
from app.errors import Conflict, NotFound, Problem
from app.messages.find import COLUMNS
from app.prepared import prepared
from schema.base import new_id

# FOR SHARE: whoever closes one of these waits for us, and nothing is accepted after that.
_SESSION = text("SELECT status FROM sessions WHERE id = :id AND owner = :owner FOR SHARE")
_GROUPCHAT = text("SELECT status, agents FROM groupchats WHERE id = :id AND owner = :owner FOR SHARE")
_AGENTS = text("SELECT id FROM agents WHERE id = ANY(:ids)")
# The post comes first, its copies behind it. One that has none (`alone`) has reached all there are.
_INSERT = prepared(
    "send",
    f"""
    WITH m AS (
        INSERT INTO messages (id, owner, source_agent_id, destination_agent_id, groupchat_id, post_id, session_id,
                              message_type, content, metadata, status, sent_at, received_at)
        SELECT n.id, :owner, :source, n.destination, :groupchat_id, CASE WHEN n.place > 1 THEN :id END, :session_id,
               :message_type, :content, CAST(:metadata AS jsonb), CASE WHEN :alone THEN 'received' ELSE 'pending' END,
               CASE WHEN :alone THEN now() END, CASE WHEN :alone THEN now() END
        FROM unnest(CAST(:ids AS text[]), CAST(:destinations AS text[])) WITH ORDINALITY AS n (id, destination, place)
        ORDER BY n.place
        RETURNING *
    )
    SELECT {COLUMNS} FROM m WHERE post_id IS NULL
    """,  # noqa: S608
)


@dataclass(frozen=True, kw_only=True)
class NewMessage:
    """A message as it is asked for: with a destination, or a group chat in its place."""

    source_agent_id: str
    message_type: str
    content: str
    destination_agent_id: str | None = None
    groupchat_id: str | None = None
    metadata: dict[str, Any] | None = None
    session_id: str | None = None


def send(db: Db, owner: str, message: NewMessage) -> Any:
    """Accept a message. Returns its row: a letter's, or a post's.

    Raises:
        NotFound: an agent does not exist, or a session or group chat does not or is another owner's.
        Conflict: the session or the group chat is closed.
    """
    destinations = _destinations(db, owner, message)
    ids = [new_id() for _ in destinations]
    params = {
        "id": ids[0],
        "owner": owner,
        "source": message.source_agent_id,
        "groupchat_id": message.groupchat_id,
        "session_id": message.session_id,
        "message_type": message.message_type,
        "content": message.content,
        "metadata": None if message.metadata is None else json.dumps(message.metadata),
        "alone": destinations == [None],
        "ids": ids,
        "destinations": destinations,
    }
    sent = db.execute(_INSERT, params).one()
    after_commit(db, "messages.deliver", publisher.ring_deliverer)
    return sent


def _destinations(db: Db, owner: str, message: NewMessage) -> list[str | None]:
    """Whom it goes to; a post to nobody, and then to all members but the sender."""
    missing = _missing_agents(db, message)
    session = chat = None
    if message.session_id is not None:
        session = db.execute(_SESSION, {"id": message.session_id, "owner": owner}).one_or_none()
        missing += [] if session else [Problem(("session_id",), f"no session {message.session_id}")]
    if message.groupchat_id is not None:
        chat = db.execute(_GROUPCHAT, {"id": message.groupchat_id, "owner": owner}).one_or_none()
        missing += [] if chat else [Problem(("groupchat_id",), f"no group chat {message.groupchat_id}")]
    if missing:
        raise NotFound("The message was not accepted: something that is referred to does not exist.", problems=missing)
    if session and session.status == "closed":
        raise Conflict(f"Session {message.session_id} is closed.")
    if chat and chat.status == "closed":
        raise Conflict(f"Group chat {message.groupchat_id} is closed.")
    if chat is None:
        return [message.destination_agent_id]
    return [None, *(agent for agent in chat.agents if agent != message.source_agent_id)]


def _missing_agents(db: Db, message: NewMessage) -> list[Problem]:
    named = {name: getattr(message, name) for name in ("source_agent_id", "destination_agent_id")}
    named = {name: agent for name, agent in named.items() if agent is not None}
    known = set(db.execute(_AGENTS, {"ids": list(named.values())}).scalars())
    return [Problem((name,), f"no agent {agent}") for name, agent in named.items() if agent not in known]
