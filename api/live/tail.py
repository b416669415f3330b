"""The tail of the log: one thread a process that sees what has changed, and rings for those who follow it.

It is woken by news from Redis, and looks every second without. It reads ids alone, below the horizon (app/streams), so
whoever is rung finds in Postgres what it is rung for.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cache

from sqlalchemy.exc import SQLAlchemyError

from api.news import news
from app.db import single
from app.streams import log as event_log
from app.streams.position import LAST, Position

log = logging.getLogger(__name__)

#: Seconds between two looks without news, and where a transaction under way keeps events back.
_IDLE_S = 1.0
_WAITING_S = 0.01
#: Seconds of rest after each look: what comes meanwhile is seen by the next one together.
_REST_S = 0.004


class Tail:
    """Who follows what, and the thread that rings for them."""

    def __init__(self) -> None:
        self._followers: dict[str, set[Callable[[], None]]] = {}
        self._of_agents = 0
        self._lock = threading.Lock()
        self._bell = threading.Event()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._reached = True
        self._waits_s = _WAITING_S

    @contextmanager
    def follow(self, an_id: str, ring: Callable[[], None], *, agent: bool = False) -> Iterator[None]:
        """Call `ring` whenever there may be something new of this id, for the length of the block.

        Look once inside the block before waiting: what was there before does not ring.
        """
        with self._lock:
            self._followers.setdefault(an_id, set()).add(ring)
            self._of_agents += agent
        try:
            self._start()
            # It rests while nobody follows.
            self._bell.set()
            yield
        finally:
            with self._lock:
                self._of_agents -= agent
                self._followers[an_id].discard(ring)
                if not self._followers[an_id]:
                    del self._followers[an_id]

    def close(self) -> None:
        """End the thread. It starts again with the next follower."""
        self._stop.set()
        self._bell.set()
        if self._thread:
            self._thread.join()
        self._thread = None
        self._stop.clear()

    def _start(self) -> None:
        with self._lock:
            if self._thread is None:
                thread = threading.Thread(target=self._run, name="tail", daemon=True)
                thread.start()
                self._thread = thread

    def _run(self) -> None:
        with news().hear(self._hear):
            position: Position | None = None
            wait_s = 0.0
            while not self._stop.is_set():
                self._bell.wait(wait_s)
                self._bell.clear()
                position, wait_s = self._step(position) if self._followers else (None, _IDLE_S)
                self._stop.wait(_REST_S)

    def _step(self, position: Position | None) -> tuple[Position | None, float]:
        """Look once. Returns how far that went, and the seconds to the next look."""
        try:
            with single() as db:
                if position is None:
                    position = Position(event_log.horizon(db) - 1, LAST)
                    found = event_log.Changed(set(self._followers), position, more=False, waiting=True)
                else:
                    found = event_log.changed(db, position, agents=self._of_agents > 0)
        except SQLAlchemyError as exc:
            if self._reached:
                log.warning("the tail of the log cannot be read: %s", type(exc).__name__)
            self._reached = False
            return None, _IDLE_S
        self._reached = True
        self._ring(found.ids)
        if found.more:
            return found.position, 0.0
        # The longer a transaction keeps them back, the less often it is worth a look.
        self._waits_s = min(2 * self._waits_s, _IDLE_S) if found.waiting and not found.ids else _WAITING_S
        return found.position, self._waits_s if found.waiting else _IDLE_S

    def _hear(self, ids: Iterable[str]) -> None:
        # What follows one task, or waits for letters, need not wait for others' transactions to end.
        self._ring(ids)
        self._bell.set()

    def _ring(self, ids: Iterable[str]) -> None:
        with self._lock:
            rings = {ring for an_id in ids for ring in self._followers.get(an_id, ())}
        for ring in rings:
            ring()


@cache
def tail() -> Tail:
    """The tail of this process."""
    return Tail()
