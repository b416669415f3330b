"""Looks at Chroma that cost one request, without its client, which is slow to import and heavy to hold."""

from __future__ import annotations

from functools import cache

import httpx

_COLLECTIONS = "/api/v2/tenants/default_tenant/databases/default_database/collections"


def listen(url: str, timeout_s: float) -> None:
    """Return once Chroma has answered.

    Raises:
        httpx.HTTPError: it does not, or not in time.
    """
    _http().get(f"{url}/api/v2/heartbeat", timeout=timeout_s).raise_for_status()


def has(url: str, collection: str, timeout_s: float) -> bool:
    """Whether Chroma has a collection of this name.

    Raises:
        httpx.HTTPError: it does not answer, or not in time.
    """
    answer = _http().get(f"{url}{_COLLECTIONS}/{collection}", timeout=timeout_s)
    if answer.status_code == httpx.codes.NOT_FOUND:
        return False
    answer.raise_for_status()
    return True


@cache
def _http() -> httpx.Client:
    # No connection is kept: what answered a minute ago proves nothing. And each client reads all certificates.
    return httpx.Client(trust_env=False, limits=httpx.Limits(max_keepalive_connections=0))
