"""How many containers this process starts at once, and for whom first."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

#: A start keeps a core busy for most of its time: more at once would only make each slower.
MOST = (os.cpu_count() or 1) + 1
#: Seconds between looks at whether somebody who waits has given up.
LOOK_S = 0.1


class Starts:
    """Turns to start a container: those that a task waits for, first come first served, then those kept in reserve."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._running = 0
        #: A ticket for each task that waits for its turn, in order.
        self._line: deque[object] = deque()
        self._changed = threading.Condition()

    @contextmanager
    def for_task(self, given_up: Callable[[], bool]) -> Iterator[None]:
        """A turn for a task. Raises TimeoutError if `given_up()` comes true first."""
        ticket = object()
        with self._changed:
            self._line.append(ticket)
            try:
                while self._running >= self._most or self._line[0] is not ticket:
                    if given_up():
                        raise TimeoutError
                    self._changed.wait(LOOK_S)
            finally:
                self._line.remove(ticket)
                # Another is at the head of the line now.
                self._changed.notify_all()
            self._running += 1
        with self._turn():
            yield

    @contextmanager
    def for_reserve(self, given_up: Callable[[], bool]) -> Iterator[None]:
        """A turn for a container that nobody waits for, alone. Raises TimeoutError if `given_up()` comes true first."""
        with self._changed:
            while self._line or self._running:
                if given_up():
                    raise TimeoutError
                self._changed.wait(LOOK_S)
            self._running += 1
        with self._turn():
            yield

    @contextmanager
    def _turn(self) -> Iterator[None]:
        try:
            yield
        finally:
            with self._changed:
                self._running -= 1
                self._changed.notify_all()
