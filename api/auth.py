"""Who calls: `Authorization: Bearer clawq_<id>_<secret>`, and whether the key allows it."""

from __future__ import annotations

from app import keys
from app.db import reading
from app.errors import Forbidden, Unauthorized
from app.gather import Gather
from app.keys import Caller

#: The paths that answer without a key; a test holds every other route to a scope.
OPEN = ("/health", "/ready", "/metrics", "/docs", "/api/v1/openapi.json")

#: Every request asks this; those that ask at the same time share the answer's price.
_holder_of: Gather[str, Caller] = Gather(keys.authenticate_each, reading)


def bearer(header: str | None) -> str:
    """The key text in an Authorization header. Raises Unauthorized if there is none."""
    scheme, _, key_text = (header or "").partition(" ")
    if scheme.lower() != "bearer" or not key_text:
        raise Unauthorized
    return key_text.strip()


def authenticate(key_text: str, scope: str) -> Caller:
    """The caller, whose key allows `scope`.

    Raises:
        Unauthorized: the key is not valid.
        Forbidden: it does not allow this.
    """
    caller = _holder_of(key_text)
    if not caller.may(scope):
        raise Forbidden(f"This needs the scope {scope}; the key has {', '.join(sorted(caller.scopes)) or 'none'}.")
    return caller
