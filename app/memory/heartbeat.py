"""Whether Chroma answers: one request, without its client, which is slow to import and heavy to hold."""

from __future__ import annotations

from functools import cache

import httpx


def listen(url: str, timeout_s: float) -> None:
    """Return once Chroma has answered.

    Raises:
        httpx.HTTPError: it does not, or not in time.
    """
    _http().get(f"{url}/api/v2/heartbeat", timeout=timeout_s).raise_for_status()


@cache
def _http() -> httpx.Client:
    # No connection is kept: what answered a minute ago proves nothing. And each client reads all certificates.
    return httpx.Client(trust_env=False, limits=httpx.Limits(max_keepalive_connections=0))
