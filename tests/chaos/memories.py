"""Memories: what a scenario remembers, and the check at its end that the index says what Postgres does."""

from __future__ import annotations

import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import psycopg2

from tests.chaos.rig import Rig
from tests.support import HTTP, eventually

#: A client's patience; the API answers within 12 s whatever Postgres does.
_CLIENT_S = 20
_SETTLE_S = 60
# What a killed indexer had in hand waits half a minute, what waits for an engine two seconds.
_HURRY = "UPDATE memory_outbox SET available_at = now() WHERE available_at > now() AND failed_at IS NULL"
# The grace of searches that have begun.
_LATER = """
    UPDATE memory_indexes SET activated_at = activated_at - interval '1 hour'
    WHERE status = 'retired' AND activated_at > now() - interval '1 minute'
"""
_OPEN = """
    SELECT (SELECT count(*) FROM memory_outbox) + (SELECT count(*) FROM memory_indexes WHERE status = 'retired') AS n
"""


class Memories:
    """The memories of one scenario: `stand` are the texts that must be found, by id; `gone` the ids that must not."""

    def __init__(self, rig: Rig) -> None:
        self.stand: dict[str, str] = {}
        self.gone: list[str] = []
        self._rig = rig
        self._url = f"{rig.api_url}/api/v1/memories"
        self._headers = {"Authorization": f"Bearer {rig.api_key}"}

    def empty(self) -> None:
        """Forget all memories there have been, and have a new index."""
        self._rig.inside.sql("TRUNCATE memory, memory_versions, memory_uses, memory_outbox, memory_indexes")
        eventually(lambda: self.index()["active"], timeout=60)

    # Asking

    def call(self, method: str, path: str = "", body: Any = None, headers: dict[str, str] | None = None) -> Any:
        """What the API answers. Raises httpx.HTTPError if it refuses, or there is no answer."""
        response = HTTP.request(
            method, self._url + path, json=body, headers=self._headers | (headers or {}), timeout=_CLIENT_S
        )
        return response.raise_for_status().json() if response.status_code != httpx.codes.NO_CONTENT else None

    def store(self, *texts: str) -> list[str]:
        """Remember texts in one request, which is repeated until it is accepted; returns their ids."""
        key = {"Idempotency-Key": uuid.uuid4().hex}
        body = {"memories": [{"memory_type": "semantic", "content": text} for text in texts]}
        ids = [str(item["id"]) for item in self._insist("POST", "/batch", body, key)["items"]]
        self.stand |= dict(zip(ids, texts, strict=True))
        return ids

    def change(self, memory_id: str, text: str) -> None:
        """Give a memory another text."""
        self._insist("PATCH", f"/{memory_id}", {"content": text})
        self.stand[memory_id] = text

    def forget(self, *ids: str) -> None:
        """Forget memories."""
        self._insist("POST", "/forget", {"ids": ids})
        self.gone += ids
        self.stand = {one: text for one, text in self.stand.items() if one not in ids}

    def rebuild(self) -> None:
        """Begin a new index."""
        self.call("POST", "/index/rebuild")

    def search(self, query: str, mode: str = "vector", limit: int = 10) -> Any:
        """What a search answers."""
        return self.call("POST", "/search", {"query": query, "mode": mode, "limit": limit})

    def index(self) -> Any:
        """How far the index follows."""
        return self.call("GET", "/index")

    def finds(self, memory_id: str) -> bool:
        """Whether a search by vectors for a memory's own words comes upon it, and at its newest text."""
        text = self.stand[memory_id]
        # Not the very text, which is looked up without vectors.
        found = self.search(f"{text}?")["items"]
        return any(item["id"] == memory_id and item["content"] == text for item in found)

    # The end

    def settle(self, timeout: float = _SETTLE_S) -> None:
        """Wait until the index has caught up, then check that nothing is lost, left over or out of date."""
        last: list[Any] = []

        def caught_up() -> bool:
            try:
                self.hurry()
                last[:] = [self.index()]
                return bool(last[0]["active"]) and not last[0]["building"] and not self._open()
            except (httpx.HTTPError, psycopg2.OperationalError) as exc:
                last[:] = [exc]
                return False

        try:
            eventually(caught_up, timeout)
        except AssertionError:
            raise AssertionError(f"the index has not caught up within {timeout} s: {last}") from None
        # Whoever found Chroma away asks again two seconds later.
        report = self._insist("POST", "/index/verify", {"repair": False})
        assert (report["differences"], report["pending"], report["expected"]) == (0, 0, len(self.stand)), report
        rows = self._rig.inside.sql("SELECT id, content, version, indexed_version FROM memory WHERE status = 'active'")
        assert {row.id: row.content for row in rows} == self.stand
        assert [row for row in rows if row.version != row.indexed_version] == []
        with ThreadPoolExecutor(3) as pool:
            lost = [one for one, found in zip(self.stand, pool.map(self.finds, self.stand), strict=True) if not found]
        assert lost == []

    def hurry(self) -> None:
        """Let whatever waits have waited long enough."""
        self._rig.inside.sql(_HURRY)
        self._rig.inside.sql(_LATER)

    def _open(self) -> int:
        (row,) = self._rig.inside.sql(_OPEN)
        return int(row.n)

    def _insist(self, method: str, path: str, body: Any, headers: dict[str, str] | None = None) -> Any:
        def attempt() -> Any:
            try:
                return self.call(method, path, body, headers) or {"done": True}
            except httpx.HTTPStatusError as exc:
                if not exc.response.is_server_error:
                    raise
            except httpx.HTTPError:
                pass
            return None

        return eventually(attempt, timeout=60)
