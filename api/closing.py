"""Closing: this process is asked to end, and what would go on for ever must not keep it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache


class Closing:
    """Whether the process closes, and the bells of those who have to know."""

    def __init__(self) -> None:
        self.begun = False
        self._bells: set[threading.Event] = set()

    @contextmanager
    def watch(self, bell: threading.Event) -> Iterator[None]:
        """Ring `bell` when the process begins to close; look at `begun` then. For the length of the block."""
        # A set's own operations are whole: a lock could be held by the very thread that gets the signal.
        self._bells.add(bell)
        try:
            yield
        finally:
            self._bells.discard(bell)

    def begin(self) -> None:
        """Tell everybody."""
        self.begun = True
        for bell in tuple(self._bells):
            bell.set()


@cache
def closing() -> Closing:
    """That of this process."""
    return Closing()
