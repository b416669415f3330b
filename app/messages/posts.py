"""Posts: the status of a message to a group chat, which is what all of its copies have reached."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import text

from app.db import Db

# Whoever changes copies holds their posts, then looks at all copies: of two at once, the later sees what the other did.
_HOLD = text("SELECT id FROM messages WHERE id = ANY(:ids) ORDER BY id FOR NO KEY UPDATE")
_SENT = text(
    """
    UPDATE messages p SET status = 'sent', sent_at = clock_timestamp()
    WHERE p.id = ANY(:ids) AND p.status = 'pending'
      AND NOT EXISTS (SELECT FROM messages c WHERE c.post_id = p.id AND c.status = 'pending')
    """
)
_RECEIVED = text(
    """
    UPDATE messages p SET status = 'received', received_at = clock_timestamp()
    WHERE p.id = ANY(:ids) AND p.status = 'sent'
      AND NOT EXISTS (SELECT FROM messages c WHERE c.post_id = p.id AND c.status IN ('pending', 'sent'))
    """
)


def sent(db: Db, post_ids: Collection[str]) -> None:
    """Copies of these posts were sent."""
    if post_ids:
        db.execute(_HOLD, {"ids": list(post_ids)})
        db.execute(_SENT, {"ids": list(post_ids)})


def received(db: Db, post_id: str) -> None:
    """A copy of this post was acknowledged."""
    db.execute(_HOLD, {"ids": [post_id]})
    db.execute(_RECEIVED, {"ids": [post_id]})
