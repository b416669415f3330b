"""Idempotency: a repeated request gets the first one's answer.

The record is written in the transaction that does the work, so both stand or neither. What is in flight is known
by an advisory lock that the transaction holds.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session

from app.db import Db
from app.errors import IdempotencyInFlight, IdempotencyMismatch
from schema.keys import Idempotency

#: Hours an answer is kept.
KEEP_H = 24

_LOCK = text("SELECT pg_try_advisory_xact_lock(hashtextextended(:name, 0))")
_SWEEP = text("DELETE FROM idempotency WHERE created_at < now() - :hours * interval '1 hour'")


@dataclass(frozen=True)
class Answer:
    """What a request was answered."""

    http_status: int
    body: dict[str, Any]
    location: str | None


@dataclass(frozen=True)
class Request:
    """A request that carries an Idempotency-Key."""

    owner: str
    #: Method and path.
    route: str
    key: str
    body: bytes


def recall(db: Session, request: Request) -> Answer | None:
    """The answer that this request was given before, or None, and then nobody else may handle it until commit.

    Raises:
        IdempotencyInFlight: another transaction is handling it.
        IdempotencyMismatch: the key was used with another body.
    """
    name = "\n".join((request.owner, request.route, request.key))
    if not db.execute(_LOCK, {"name": name}).scalar_one():
        raise IdempotencyInFlight
    row = db.get(Idempotency, (request.owner, request.route, request.key))
    if row is None:
        return None
    if row.body_sha256 != hashlib.sha256(request.body).digest():
        raise IdempotencyMismatch
    return Answer(row.http_status, row.response, row.location)


def remember(db: Session, request: Request, answer: Answer) -> None:
    """Keep an answer for `KEEP_H` hours."""
    db.add(
        Idempotency(
            owner=request.owner,
            route=request.route,
            key=request.key,
            body_sha256=hashlib.sha256(request.body).digest(),
            http_status=answer.http_status,
            response=answer.body,
            location=answer.location,
        )
    )


def sweep(db: Db) -> None:
    """Forget answers older than `KEEP_H` hours."""
    db.execute(_SWEEP, {"hours": KEEP_H})
