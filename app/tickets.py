"""Tickets: what a browser opens a socket with, once and soon. Only their SHA-256 is kept."""

from __future__ import annotations

import hashlib
import secrets
from datetime import datetime

from sqlalchemy import text

from app.db import Db
from app.errors import Unauthorized
from app.keys import USABLE, Caller

#: Seconds in which a ticket may be used.
LIFE_S = 30

_ISSUE = text(
    """
    WITH gone AS (DELETE FROM ws_tickets WHERE expires_at < now())
    INSERT INTO ws_tickets (ticket_sha256, key_id, expires_at)
    VALUES (:digest, :key_id, now() + :life_s * interval '1 s') RETURNING expires_at
    """
)
_REDEEM = text(
    f"""
    WITH t AS (DELETE FROM ws_tickets WHERE ticket_sha256 = :digest RETURNING key_id, expires_at)
    SELECT id, owner, scopes FROM api_keys WHERE id IN (SELECT key_id FROM t WHERE expires_at > now()) AND {USABLE}
    """  # noqa: S608
)


def issue(db: Db, key_id: str) -> tuple[str, datetime]:
    """A ticket for the holder of a key, and when it expires."""
    ticket = secrets.token_urlsafe(32)
    params = {"digest": _digest(ticket), "key_id": key_id, "life_s": LIFE_S}
    return ticket, db.execute(_ISSUE, params).scalar_one()


def redeem(db: Db, ticket: str) -> Caller:
    """Who a ticket was issued to; it is used up. Raises Unauthorized if it is unknown, used or expired."""
    row = db.execute(_REDEEM, {"digest": _digest(ticket)}).one_or_none()
    if row is None:
        raise Unauthorized("The ticket is not valid: unknown, used or expired.")
    return Caller(key_id=row.id, owner=row.owner, scopes=frozenset(row.scopes))


def _digest(ticket: str) -> bytes:
    return hashlib.sha256(ticket.encode()).digest()
