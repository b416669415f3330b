"""Letters: agents of one scenario that write to each other, and readers that die between reading and acknowledging."""

from __future__ import annotations

import random
import threading
import time
import uuid
from collections.abc import Sequence
from typing import Any

import httpx

from tests.chaos.rig import Rig
from tests.support import eventually

#: A client's patience; the API answers within 12 s whatever Postgres does.
_CLIENT_S = 20
_AGENT = {"name": "pen-friend", "role": "writer", "goal": "Write.", "agent_type": "pen-friend"}
#: Seconds until all that was written must have been read.
_PATIENCE_S = 120
#: How often a reader dies with letters in its hand, and the most that it reads at once.
_DIES, _MOST = 0.3, 40


class Letters:
    """What is written and read by the agents of one scenario."""

    def __init__(self, rig: Rig) -> None:
        self._rig = rig
        self._url = f"{rig.api_url}/api/v1"
        # Connections are used again, as by a client that has much to say; those that break are no failure here.
        self._http = httpx.Client(headers={"Authorization": f"Bearer {rig.api_key}"}, timeout=_CLIENT_S)
        self._lock = threading.Lock()
        #: Letters whose acknowledgement was answered.
        self.received = 0

    def close(self) -> None:
        """Forget about it."""
        self.empty()
        self._http.close()

    def empty(self) -> None:
        """Forget all letters and pen-friends there have been."""
        self._rig.inside.sql("TRUNCATE messages, inboxes")
        self._rig.inside.sql("DELETE FROM agents WHERE agent_type = 'pen-friend'")

    def agents(self, count: int) -> list[str]:
        """New agents."""
        return [str(self._insist("POST", "/agents", _AGENT)["id"]) for _ in range(count)]

    def chat(self, *members: str) -> str:
        """A new group chat."""
        return str(self._insist("POST", "/groupchats", {"name": "pen-friends", "agents": members})["id"])

    def write(self, whereto: dict[str, str], count: int) -> None:
        """Send letters one after the other: each is repeated until it is accepted, and then comes the next."""
        for number in range(count):
            body = {"message_type": "text", "content": str(number), **whereto}
            self._insist("POST", "/messages", body)

    def read(self, agent_id: str, count: int, dice: random.Random) -> list[dict[str, Any]]:
        """Read an inbox and acknowledge until so many letters are received; returns them as they were first seen.

        A reader that dies forgets how far it was, and the next one begins at the start. None may see a letter again
        whose acknowledgement was answered before it asked.
        """
        seen: dict[str, dict[str, Any]] = {}
        acknowledged: set[str] = set()
        after = 0
        give_up = time.monotonic() + _PATIENCE_S
        while len(acknowledged) < count:
            assert time.monotonic() < give_up, f"{len(acknowledged)} of {count} letters within {_PATIENCE_S} s"
            page = self._insist("GET", f"/agents/{agent_id}/inbox?after={after}&limit={dice.randint(1, _MOST)}&wait=1")
            shown = page["items"]
            again = [letter["id"] for letter in shown if letter["id"] in acknowledged]
            assert not again, f"seen after acknowledgement: {again}"
            seen |= {letter["id"]: letter for letter in shown if letter["id"] not in seen}
            dies_at = dice.randint(0, len(shown)) if dice.random() < _DIES else None
            for letter in shown[:dies_at]:
                self._insist("POST", f"/messages/{letter['id']}/ack", {})
                acknowledged.add(letter["id"])
                with self._lock:
                    self.received += 1
            # Whoever lives goes on behind what it has; once in a while from the start, as a restart would.
            after = shown[-1]["seq"] if shown and dies_at is None else 0
        return list(seen.values())

    def statuses(self) -> Sequence[Any]:
        """How many messages are in each state: (status, n)."""
        return self._rig.inside.sql("SELECT status, count(*) AS n FROM messages GROUP BY status")

    def _insist(self, method: str, path: str, body: Any = None) -> Any:
        """What the API answers in the end: one request, with one Idempotency-Key, until it is answered 2xx."""
        once = {"Idempotency-Key": uuid.uuid4().hex}

        def attempt() -> Any:
            try:
                response = self._http.request(method, self._url + path, json=body, headers=once)
            except httpx.HTTPError:
                return None
            in_flight = response.status_code == httpx.codes.CONFLICT and "in_flight" in response.text
            if response.is_server_error or in_flight:
                return None
            return response.raise_for_status().json()

        return eventually(attempt, timeout=60)
