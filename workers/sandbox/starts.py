"""How many containers this process starts at once, and for whom first."""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

#: A start keeps a core busy for most of its time: more at once would only make each slower.
MOST = (os.cpu_count() or 1) + 1
#: Seconds between looks at whether somebody who waits has given up.
LOOK_S = 0.2
#: Seconds that the reserve waits for others to be done with their starts.
PATIENCE_S = 10.0


class Starts:
    """Turns to start a container: those that a task waits for, first come first served, then those kept in reserve."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._running = 0
        self._lock = threading.Lock()
        #: Who waits for a turn; set when it is given.
        self._line: deque[threading.Event] = deque()
        #: The one that starts in reserve waits here until nobody else starts.
        self._idle = threading.Event()
        self._idle.set()

    @contextmanager
    def for_task(self, given_up: Callable[[], bool]) -> Iterator[None]:
        """A turn for a task. Raises TimeoutError if `given_up()` comes true first."""
        turn = threading.Event()
        with self._lock:
            self._line.append(turn)
            self._give()
        while not turn.wait(LOOK_S):
            if given_up() and self._leaves(turn):
                raise TimeoutError
        with self._returned():
            yield

    @contextmanager
    def for_reserve(self, given_up: Callable[[], bool]) -> Iterator[None]:
        """A turn for a container that nobody waits for, alone. Raises TimeoutError if `given_up()` comes true first.

        After PATIENCE_S it gets in line: tasks that must have their own started shall not leave all others without.
        """
        patience = time.monotonic() + PATIENCE_S
        while not self._takes_idle():
            if given_up():
                raise TimeoutError
            if time.monotonic() > patience:
                with self.for_task(given_up):
                    yield
                return
            self._idle.wait(LOOK_S)
        with self._returned():
            yield

    def _takes_idle(self) -> bool:
        with self._lock:
            if self._line or self._running:
                return False
            self._begin()
            return True

    def _leaves(self, turn: threading.Event) -> bool:
        """Take one that waits out of the line; False if it has just been given its turn."""
        with self._lock:
            if turn.is_set():
                return False
            self._line.remove(turn)
            return True

    def _give(self) -> None:
        """Give turns to those at the head of the line, as many as there are."""
        while self._line and self._running < self._most:
            self._begin()
            self._line.popleft().set()

    def _begin(self) -> None:
        self._running += 1
        self._idle.clear()

    @contextmanager
    def _returned(self) -> Iterator[None]:
        """Give the turn back after the block."""
        try:
            yield
        finally:
            with self._lock:
                self._running -= 1
                self._give()
                if not self._running:
                    self._idle.set()
