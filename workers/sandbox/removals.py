"""Removes used containers a moment after their runs, in threads that do not keep a worker from leaving."""

from __future__ import annotations

import logging
import threading
import time
from queue import SimpleQueue

from workers.sandbox.container import ENGINE_ERRORS, Container

log = logging.getLogger(__name__)

#: Containers that are removed at once.
THREADS = 2
#: Seconds before a removal: it keeps the engine busy for longer than a short run lasts, and the worker has yet to write
#: down how that ended.
REST_S = 0.1


class Removals:
    """A line of containers that go. Safe to use from many threads."""

    def __init__(self) -> None:
        self._line: SimpleQueue[Container | None] = SimpleQueue()
        self._closing = threading.Event()
        self._threads = [threading.Thread(target=self._run, name="removal", daemon=True) for _ in range(THREADS)]
        for thread in self._threads:
            thread.start()

    def add(self, container: Container) -> None:
        """Have a container removed soon. Nothing of a program runs in it any more, or it has been idle."""
        self._line.put(container)

    def close(self, give_up: float) -> None:
        """Remove what is in line, now, until time.monotonic() is `give_up`; the reaper has the rest."""
        self._closing.set()
        for _ in self._threads:
            self._line.put(None)
        for thread in self._threads:
            thread.join(max(0.0, give_up - time.monotonic()))

    def _run(self) -> None:
        while container := self._line.get():
            self._closing.wait(REST_S)
            try:
                container.remove()
            except ENGINE_ERRORS as exc:
                log.warning("container %s not removed: %s", container.id[:12], exc)
            except Exception:
                # Nobody else would remove the next ones.
                log.exception("container %s not removed", container.id[:12])
