"""ApiKey: who may call. WsTicket: who may open a socket, once. Idempotency: what a repeated request is answered."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ForeignKey, Index, LargeBinary, SmallInteger, Text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import Mapped, mapped_column

from schema.base import Base, Id, Name, Now, Time


class ApiKey(Base):
    """A key `clawq_<id>_<secret>`; only the SHA-256 of the secret is kept."""

    __tablename__ = "api_keys"

    id: Mapped[Id] = mapped_column(primary_key=True)
    name: Mapped[Name]
    owner: Mapped[Name]
    secret_sha256: Mapped[bytes] = mapped_column(LargeBinary)
    #: Out of read, submit, admin.
    scopes: Mapped[list[str]] = mapped_column(ARRAY(Text))
    created_at: Mapped[Now]
    expires_at: Mapped[Time | None]
    revoked_at: Mapped[Time | None]

    __table_args__ = (Index("api_keys_idx_owner", "owner"),)


class WsTicket(Base):
    """What a browser opens a socket with, since it cannot send a header; only the SHA-256 of the ticket is kept."""

    __tablename__ = "ws_tickets"

    ticket_sha256: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True)
    key_id: Mapped[Id] = mapped_column(ForeignKey("api_keys.id", ondelete="CASCADE"))
    expires_at: Mapped[Time]

    __table_args__ = (Index("ws_tickets_idx_expires_at", "expires_at"),)


class Idempotency(Base):
    """The answer to a request that carried an Idempotency-Key, kept for a day."""

    __tablename__ = "idempotency"

    owner: Mapped[Name] = mapped_column(primary_key=True)
    #: Method and path.
    route: Mapped[Name] = mapped_column(primary_key=True)
    key: Mapped[Name] = mapped_column(primary_key=True)
    body_sha256: Mapped[bytes] = mapped_column(LargeBinary)
    http_status: Mapped[int] = mapped_column(SmallInteger)
    response: Mapped[dict[str, Any]] = mapped_column(JSONB)
    location: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[Now]

    __table_args__ = (Index("idempotency_idx_created_at", "created_at"),)
