"""Who calls: `Authorization: Bearer clawq_<id>_<secret>`, and whether the key allows it."""

from __future__ import annotations

import hashlib
import threading
import time
from functools import cache

from app import keys
from app.db import single
from app.errors import Forbidden, Unauthorized
from app.gather import Gather
from app.keys import Caller

#: The paths that answer without a key; a test holds every other route to a scope.
OPEN = ("/health", "/ready", "/metrics", "/docs", "/api/v1/openapi.json")
#: Seconds for which a caller is remembered, and how many are.
_REMEMBER_S = 60.0
_MOST_REMEMBERED = 10_000

#: Nearly every request asks this; those that ask at the same time share the answer's price.
_holder_of: Gather[str, Caller] = Gather(keys.authenticate_each, single)


class Acquaintances:
    """Callers whose keys were good not long ago. What they may write is up to the statement that writes it."""

    def __init__(self) -> None:
        self._seen: dict[bytes, tuple[Caller, float]] = {}
        self._lock = threading.Lock()

    def find(self, key_text: str) -> Caller | None:
        """Who held this key when it was last looked up, if that was not long ago."""
        caller, until = self._seen.get(_digest(key_text), (None, 0.0))
        return caller if time.monotonic() < until else None

    def note(self, key_text: str, caller: Caller) -> None:
        """Remember the holder of a key that has just been looked up."""
        with self._lock:
            if len(self._seen) >= _MOST_REMEMBERED:
                self._seen.clear()
            self._seen[_digest(key_text)] = (caller, time.monotonic() + _REMEMBER_S)


@cache
def acquaintances() -> Acquaintances:
    """Those of this process."""
    return Acquaintances()


def bearer(header: str | None) -> str:
    """The key text in an Authorization header. Raises Unauthorized if there is none."""
    scheme, _, key_text = (header or "").partition(" ")
    if scheme.lower() != "bearer" or not key_text:
        raise Unauthorized
    return key_text.strip()


def authenticate(key_text: str, scope: str, *, fenced: bool = False) -> Caller:
    """The caller, whose key allows `scope`.

    Args:
        fenced: the statement that does the work looks at the key again, so that a caller who is known will do here.

    Raises:
        Unauthorized: the key is not valid.
        Forbidden: it does not allow this.
    """
    caller = (acquaintances().find(key_text) if fenced else None) or holder(key_text)
    # Neither owner nor scopes of a key ever change.
    require(caller, scope)
    return caller


def require(caller: Caller, scope: str) -> None:
    """Raise Forbidden unless the caller's key allows `scope`."""
    if not caller.may(scope):
        raise Forbidden(f"This needs the scope {scope}; the key has {', '.join(sorted(caller.scopes)) or 'none'}.")


def holder(key_text: str) -> Caller:
    """Who holds a key, looked up now. Raises Unauthorized."""
    caller = _holder_of(key_text)
    acquaintances().note(key_text, caller)
    return caller


def _digest(key_text: str) -> bytes:
    # Nothing that could be used should lie about in memory.
    return hashlib.sha256(key_text.encode()).digest()
