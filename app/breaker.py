"""A circuit breaker: whoever does not answer is not asked by everybody, again and again."""

from __future__ import annotations

import threading
import time


class CircuitBreaker:
    """Keeps callers from waiting for who does not answer: after a failure, one try every `open_s` seconds."""

    def __init__(self, open_s: float = 2.0) -> None:
        self._open_s = open_s
        self._open_until = 0.0
        self._lock = threading.Lock()

    def allows(self) -> bool:
        """Whether to try now. While open, the first caller after the wait gets through, the others do not."""
        with self._lock:
            now = time.monotonic()
            if now < self._open_until:
                return False
            if self._open_until:
                self._open_until = now + self._open_s
            return True

    def succeeded(self) -> None:
        """Close the circuit."""
        self._open_until = 0.0

    def failed(self) -> None:
        """Open the circuit."""
        self._open_until = time.monotonic() + self._open_s
