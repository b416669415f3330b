"""Acknowledge: a letter that was received leaves the inbox."""

from __future__ import annotations

from typing import Any

from sqlalchemy import text

from app import publisher
from app.db import Db
from app.errors import Conflict
from app.messages import find, posts
from schema.messages import MessageStatus

_RECEIVED = text(
    """
    UPDATE messages SET status = 'received', received_at = clock_timestamp()
    WHERE id = :id AND status = 'sent' AND destination_agent_id IS NOT NULL RETURNING post_id, destination_agent_id
    """
)


def acknowledge(db: Db, message_id: str) -> None:
    """Acknowledge a letter that exists. Acknowledging twice is harmless.

    Raises:
        Conflict: it is not sent yet, or it is a post, whose copies are acknowledged.
    """
    letter = db.execute(_RECEIVED, {"id": message_id}).one_or_none()
    if letter is None:
        _check(find.get(db, message_id, None))
        return
    # Its followers may have room for others now.
    publisher.tell_after(db, [letter.destination_agent_id])
    if letter.post_id is not None:
        posts.received(db, letter.post_id)


def _check(message: Any) -> None:
    if message.destination_agent_id is None:
        raise Conflict("A post to a group chat is acknowledged copy by copy, by those who got it.")
    if message.status == MessageStatus.PENDING:
        raise Conflict("The message is in no inbox yet.")
