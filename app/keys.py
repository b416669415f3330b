"""API keys: `clawq_<id>_<secret>`, of which only the id and the SHA-256 of the secret are kept."""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import NullPool, create_engine, func, select
from sqlalchemy.orm import Session

from app import cursors
from app.db import Db
from app.errors import NotFound, Unauthorized
from app.prepared import prepared
from schema.base import new_id
from schema.keys import ApiKey

SCOPES = ("read", "submit", "admin")
#: What is said to whoever holds a key that is no good, whatever is wrong with it.
BAD_KEY = "The API key is not valid."
#: A condition on a row of api_keys: whether the key may still be used.
USABLE = "revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now())"
# Every request asks this, and text costs a third of what the same through the models does.
_USABLE = prepared(
    "authenticate",
    f"SELECT id, owner, secret_sha256, scopes FROM api_keys WHERE id = ANY(:ids) AND {USABLE}",  # noqa: S608
)
_IS_USABLE = prepared("usable", f"SELECT EXISTS (SELECT FROM api_keys WHERE id = :id AND {USABLE}) AS usable")  # noqa: S608
_FORM = re.compile(r"clawq_([0-9a-f]{32})_([A-Za-z0-9_-]{43})")


@dataclass(frozen=True)
class Caller:
    """Who a request comes from."""

    key_id: str
    owner: str
    scopes: frozenset[str]

    def may(self, scope: str) -> bool:
        """Whether the key allows `scope`; admin allows all, submit allows read."""
        implied = {"read": {"read", "submit", "admin"}, "submit": {"submit", "admin"}, "admin": {"admin"}}
        return bool(self.scopes & implied[scope])

    @property
    def sees(self) -> str | None:
        """The owner whose things this caller sees; None: everybody's."""
        return None if "admin" in self.scopes else self.owner


def create(
    db: Session, *, name: str, owner: str, scopes: Sequence[str], expires_at: datetime | None = None
) -> tuple[ApiKey, str]:
    """Make a key. Returns its row and the key text, which cannot be had again."""
    secret = secrets.token_urlsafe(32)
    key = ApiKey(
        id=new_id().replace("-", ""),
        name=name,
        owner=owner,
        secret_sha256=_digest(secret),
        scopes=sorted(set(scopes)),
        expires_at=expires_at,
    )
    db.add(key)
    db.flush()
    db.refresh(key)
    return key, f"clawq_{key.id}_{secret}"


def authenticate(db: Db, key_text: str) -> Caller:
    """Who holds this key.

    Raises:
        Unauthorized: it is malformed, unknown, wrong, expired or revoked; which of these is not said.
    """
    (found,) = authenticate_each(db, [key_text])
    if isinstance(found, Unauthorized):
        raise found
    return found


def authenticate_each(db: Db, key_texts: Sequence[str]) -> list[Caller | Unauthorized]:
    """Who holds each of these keys, or Unauthorized as `authenticate` raises it."""
    matches = [_FORM.fullmatch(key_text) for key_text in key_texts]
    ids = list({match[1] for match in matches if match})
    rows = {row.id: row for row in db.execute(_USABLE, {"ids": ids})} if ids else {}
    return [_holder(match, rows) for match in matches]


def _holder(match: re.Match[str] | None, rows: Mapping[str, Any]) -> Caller | Unauthorized:
    key = rows.get(match[1]) if match else None
    if match is None or key is None or not hmac.compare_digest(key.secret_sha256, _digest(match[2])):
        return Unauthorized(BAD_KEY)
    return Caller(key_id=key.id, owner=key.owner, scopes=frozenset(key.scopes))


def is_usable(db: Db, key_id: str) -> bool:
    """Whether a key may still be used: nobody has revoked it, and it has not expired."""
    return bool(db.execute(_IS_USABLE, {"id": key_id}).scalar_one())


def get(db: Session, key_id: str) -> ApiKey:
    """The key. Raises NotFound."""
    key = db.get(ApiKey, key_id)
    if key is None:
        raise NotFound(f"No key {key_id}.")
    return key


def revoke(db: Session, key_id: str) -> None:
    """Make a key useless from now on. Raises NotFound."""
    key = get(db, key_id)
    key.revoked_at = func.coalesce(ApiKey.revoked_at, func.now())


def find(db: Session, cursor: str | None, limit: int) -> tuple[list[ApiKey], str | None]:
    """A page of keys, newest first. Raises Invalid for a foreign cursor."""
    query = cursors.after(select(ApiKey), ApiKey.created_at, ApiKey.id, cursor, limit)
    return cursors.page(list(db.scalars(query)), limit)


def ensure_first_key(database_url: str, path: Path) -> str:
    """The administrator's key in the file `path` (mode 0600); made anew if the file or the key is missing.

    Raises:
        OSError: the file cannot be written.
    """
    engine = create_engine(database_url, poolclass=NullPool)
    with Session(engine, expire_on_commit=False) as db, db.begin():
        if path.exists():
            held = path.read_text().strip()
            try:
                authenticate(db, held)
            except Unauthorized:
                pass
            else:
                return held
        _, key_text = create(db, name="first", owner="admin", scopes=SCOPES)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            # A file that was there keeps its mode otherwise.
            os.fchmod(descriptor, 0o600)
            file.write(key_text + "\n")
        return key_text


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()
