"""What tests of messages do again and again, each in a transaction of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from app import agents, groupchats, sessions
from app.db import transaction
from app.messages import find
from app.messages.acknowledge import acknowledge
from app.messages.send import NewMessage, send
from tests.support import OWNER, sql
from workers.messages import deliver_pending


def do(verb: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """What a verb returns."""
    with transaction() as db:
        return verb(db, *args, **kwargs)


def some_agents(count: int) -> list[str]:
    """Agents of a user's own."""
    values = {"name": "n", "role": "r", "goal": "g", "agent_type": "writer"}
    return [str(do(agents.create, **values).id) for _ in range(count)]


def a_chat(*members: str, owner: str = OWNER, **values: Any) -> str:
    """A group chat."""
    return str(do(groupchats.create, owner, **{"name": "team", "agents": list(members), **values}).id)


def a_session(owner: str = OWNER, **values: Any) -> str:
    """A session."""
    return str(do(sessions.create, owner, **{"session_type": "chat", **values}).id)


def new(source: str, destination: str | None = None, **values: Any) -> NewMessage:
    """A message to be sent."""
    defaults = {
        "source_agent_id": source,
        "destination_agent_id": destination,
        "message_type": "text",
        "content": "Hi.",
    }
    return NewMessage(**{**defaults, **values})


def write(source: str, destination: str | None = None, owner: str = OWNER, **values: Any) -> str:
    """Send a message; returns its id."""
    return str(do(send, owner, new(source, destination, **values)).id)


def deliver() -> None:
    """Let the gateway deliver all there is."""
    deliver_pending.run()


def inbox(agent_id: str, owner: str = OWNER, after: int = 0, limit: int = 1000) -> list[tuple[int, str]]:
    """What an inbox shows: (seq, id)."""
    return [(row.seq, row.id) for row in do(find.inbox, owner, agent_id, after, limit)[0]]


def acknowledged(*ids: str) -> None:
    """Acknowledge messages."""
    for message_id in ids:
        do(acknowledge, message_id)


def message(message_id: str) -> Any:
    """A message as it stands in the table."""
    (found,) = sql("SELECT * FROM messages WHERE id = :id", id=message_id)
    return found


def copies(post_id: str) -> dict[str, Any]:
    """The copies of a post, by whom they go to."""
    return {row.destination_agent_id: row for row in sql("SELECT * FROM messages WHERE post_id = :id", id=post_id)}
