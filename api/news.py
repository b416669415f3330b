"""News: requests that wait for a task to change or a letter to come, woken through Redis.

One thread a process listens to the channel on which every change is told. A lost notice costs latency, never data:
whoever waits looks into Postgres every second anyway.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cache

import redis

from api import server
from app.errors import SettingsError
from app.publisher import NEWS
from app.settings import settings

log = logging.getLogger(__name__)

#: Three quarters of the threads: the others always answer. One owner gets half of them at most.
MOST_WAITERS = server.threads * 3 // 4
#: Seconds between two looks into Postgres without a notice.
POLL_S = 1.0
_CONNECT_TIMEOUT_S = 1.0
#: Seconds between two tries to reach Redis, and between two looks at whether to stop.
_RETRY_S = 1.0


class News:
    """Who waits for which task, workflow or agent, and the thread that wakes them."""

    def __init__(self, most: int = MOST_WAITERS) -> None:
        self._most = most
        #: How many wait, by the owner of their keys.
        self._places: Counter[str] = Counter()
        self._waiters: dict[str, set[threading.Event]] = {}
        self._listeners: list[Callable[[Iterable[str]], None]] = []
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._reached = True

    @contextmanager
    def watch(self, an_id: str, owner: str) -> Iterator[threading.Event | None]:
        """An event that is set when there is news of this id; None if as many wait already, or of `owner`, as may.

        Look at the thing inside the block, after the event is cleared, and no news is missed.
        """
        bell = self._enter(an_id, owner)
        if bell is None:
            yield None
            return
        try:
            yield bell
        finally:
            self._leave(an_id, owner, bell)

    @contextmanager
    def hear(self, listener: Callable[[Iterable[str]], None]) -> Iterator[None]:
        """Call `listener` with the ids of whatever has news, for the length of the block. Takes no place."""
        with self._lock:
            self._start()
            self._listeners.append(listener)
        try:
            yield
        finally:
            with self._lock:
                self._listeners.remove(listener)

    def close(self) -> None:
        """End the thread. It starts again with the next watch."""
        self._stop.set()
        if self._thread:
            self._thread.join()
        self._thread = None
        self._stop.clear()

    def _enter(self, an_id: str, owner: str) -> threading.Event | None:
        with self._lock:
            if self._places.total() >= self._most or self._places[owner] >= self._most // 2:
                return None
            self._start()
            bell = threading.Event()
            self._places[owner] += 1
            self._waiters.setdefault(an_id, set()).add(bell)
            return bell

    def _leave(self, an_id: str, owner: str, bell: threading.Event) -> None:
        with self._lock:
            self._waiters[an_id].discard(bell)
            if not self._waiters[an_id]:
                del self._waiters[an_id]
            self._places[owner] -= 1
            if not self._places[owner]:
                del self._places[owner]

    def _start(self) -> None:
        # At first use, not at import: a process that forks after import would be left without the thread.
        if self._thread is None:
            thread = threading.Thread(target=self._listen, name="news", daemon=True)
            # A machine may have no thread left: the next one who waits tries again.
            thread.start()
            self._thread = thread

    def _listen(self) -> None:
        while not self._stop.is_set():
            try:
                self._subscribe()
            except (redis.RedisError, OSError, SettingsError) as exc:
                if self._reached:
                    log.warning("no news from Redis, waiting requests look every %.0f s: %s", POLL_S, exc)
                self._reached = False
                self._stop.wait(_RETRY_S)

    def _subscribe(self) -> None:
        connection = redis.Redis.from_url(
            settings().require_redis_url(),
            socket_timeout=_CONNECT_TIMEOUT_S,
            socket_connect_timeout=_CONNECT_TIMEOUT_S,
            socket_keepalive=True,
            # A silent peer is noticed by an unanswered ping, at the latest when the send buffer is full.
            health_check_interval=10,
        )
        with connection, connection.pubsub(ignore_subscribe_messages=True) as pubsub:  # type: ignore[no-untyped-call]
            pubsub.subscribe(NEWS)
            self._reached = True
            while not self._stop.is_set():
                message = pubsub.get_message(timeout=_RETRY_S)
                if message and message["type"] == "message":
                    self._wake(message["data"])

    def _wake(self, data: bytes) -> None:
        try:
            told = json.loads(data)
            with self._lock:
                bells = [bell for an_id in told for bell in self._waiters.get(an_id, ())]
                listeners = [*self._listeners]
        except (ValueError, TypeError):
            log.warning("news that is not a list of ids")
            return
        for bell in bells:
            bell.set()
        for listener in listeners:
            listener(told)


@cache
def news() -> News:
    """The news of this process."""
    return News()


def wait_for_end(an_id: str, owner: str, seconds: float, has_ended: Callable[[], bool]) -> bool:
    """Wait until a task or workflow has ended, or an inbox has a letter, at most so long.

    Returns:
        False: at once, for as many wait already as may.
    """
    with news().watch(an_id, owner) as bell:
        if bell is None:
            return False
        give_up = time.monotonic() + seconds
        while True:
            # Cleared before the look: what happens after the look rings again.
            bell.clear()
            left = give_up - time.monotonic()
            if left <= 0 or has_ended():
                return True
            bell.wait(min(left, POLL_S))
