"""The lobby: who is connected, and how many may be."""

from __future__ import annotations

import threading
from collections import Counter
from functools import cache
from typing import Protocol

from app import metrics
from app.errors import Unavailable
from app.settings import settings

#: Connections that have not said yet who they are.
MOST_STRANGERS = 256


class Stranger(Protocol):
    """A connection of somebody unknown."""

    def make_room(self) -> None:
        """Leave."""


class Lobby:
    """The sockets of this process. One owner gets three quarters of the places at most.

    Args:
        most: places, fewer than the server has threads: those that are left answer probes.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        #: In the order in which they came.
        self._strangers: dict[Stranger, None] = {}
        self._owners: Counter[str] = Counter()
        self._lock = threading.Lock()

    def enter(self, who: Stranger) -> None:
        """Take a place for somebody unknown. If too many are, the one who came first has to go.

        Raises:
            Unavailable: there is no place.
        """
        with self._lock:
            if len(self._strangers) + self._owners.total() >= self._most:
                raise Unavailable("All places for sockets are taken.")
            self._strangers[who] = None
            crowded = len(self._strangers) > min(MOST_STRANGERS, self._most // 2)
            oldest = next(iter(self._strangers)) if crowded else None
            metrics.SOCKETS.inc()
        if oldest is not None:
            oldest.make_room()

    def introduce(self, who: Stranger, owner: str) -> None:
        """Who has entered is of `owner`. Raises Unavailable if that one has as many places as it may have."""
        with self._lock:
            if self._owners[owner] >= max(1, self._most * 3 // 4):
                raise Unavailable("All places for your sockets are taken.")
            del self._strangers[who]
            self._owners[owner] += 1

    def leave(self, who: Stranger, owner: str | None) -> None:
        """Give a place back; `owner` None: who was there had not been introduced."""
        with self._lock:
            if owner is None:
                del self._strangers[who]
            else:
                self._owners[owner] -= 1
                self._owners += Counter()
            metrics.SOCKETS.dec()


@cache
def lobby() -> Lobby:
    """That of this process."""
    return Lobby(settings().ws_connections)
