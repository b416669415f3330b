"""API keys: made, listed and revoked by administrators."""

from __future__ import annotations

from sqlalchemy.orm import Session

from api.endpoints import PREFIX, Reply, Section
from api.payloads.common import PageQuery
from api.payloads.keys import KeyIn, KeyOut, KeyPage, NewKeyOut
from app import keys
from app.keys import Caller

section = Section("Keys")


@section.route("POST", "/keys", scope="admin", answers={201: NewKeyOut}, creates=True)
def create_key(db: Session, caller: Caller, body: KeyIn) -> Reply:
    """Make a key. Its text is in this answer and nowhere else.

    A repeat under the same Idempotency-Key makes no second key, and answers with `key` null: the secret is not stored.
    Whoever lost the first answer revokes that key and makes another.
    """
    key, key_text = keys.create(
        db, name=body.name, owner=body.owner or caller.owner, scopes=body.scopes, expires_at=body.expires_at
    )
    shown = NewKeyOut(**KeyOut.model_validate(key).model_dump(), key=key_text)
    return Reply(shown, 201, location=f"{PREFIX}/keys/{key.id}", remembered=shown.model_copy(update={"key": None}))


@section.route("GET", "/keys", scope="admin", answers={200: KeyPage})
def list_keys(db: Session, query: PageQuery) -> Reply:
    """List keys, the newest first, without their secrets."""
    found, next_cursor = keys.find(db, query.cursor, query.limit)
    return Reply(KeyPage(items=[KeyOut.model_validate(k) for k in found], next_cursor=next_cursor))


@section.route("GET", "/keys/<key_id>", scope="admin", answers={200: KeyOut})
def show_key(db: Session, key_id: str) -> Reply:
    """Show a key without its secret."""
    return Reply(KeyOut.model_validate(keys.get(db, key_id)))


@section.route("DELETE", "/keys/<key_id>", scope="admin", answers={204: None})
def revoke_key(db: Session, key_id: str) -> Reply:
    """Revoke a key: useless from now on, and still listed."""
    keys.revoke(db, key_id)
    return Reply(http_status=204)
