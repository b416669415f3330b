"""The wire: what lies below the frames of a socket.

flask-sock has each socket read by a thread of its own (simple_websocket), which answers pings and gathers frames, while
the thread of the request sends. What those two lack is here: whole frames in bounded time, and an end to what a client
may pile up.
"""

from __future__ import annotations

import contextlib
import errno
import math
import select
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

from wsproto.frame_protocol import CloseReason
from wsproto.utilities import LocalProtocolError

from api.patience import BYTES_PER_S, Client

#: Seconds for a frame to go: a client that reads more slowly is cut off.
SEND_S = 10.0
#: Frames, and their characters, that may wait to be looked at. A client that waits for answers has one or two.
MOST_FRAMES = 1000
MOST_WAITING = 8 * 2**20
#: Of one frame, in bytes.
MOST_BYTES = 2**20


class Wire:
    """A client's connection, as simple_websocket uses one."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._lock = threading.Lock()
        if isinstance(sock, Client):
            # From here on pings tell whether it lives.
            sock.allow(math.inf)

    def send(self, data: bytes) -> int:
        """Send all of it; frames of several threads do not mix.

        Raises:
            OSError: the client has gone, or does not read. The connection is of no use then, and is cut.
        """
        with self._lock:
            try:
                self._send(memoryview(data))
            except OSError:
                self.cut()
                raise
        return len(data)

    def recv(self, most: int) -> bytes:
        """Whatever has come; empty: the client has gone."""
        return self._sock.recv(most)

    def fileno(self) -> int:
        """The descriptor."""
        return self._sock.fileno()

    def close(self) -> None:
        """Say that nothing more comes. Gunicorn throws away what the client still sends, for a while, and closes.

        To refuse that would leave a client in the middle of a large frame waiting for room, for minutes.
        """
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_WR)

    def cut(self) -> None:
        """End the connection, and with it the thread that reads."""
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)

    def _send(self, left: memoryview) -> None:
        until = time.monotonic() + SEND_S
        poller = select.poll()
        poller.register(self._sock, select.POLLOUT)
        while left:
            try:
                sent = self._sock.send(left, socket.MSG_DONTWAIT)
                left = left[sent:]
                # A slow line has time for a large frame, and who takes nothing has none.
                until += sent / BYTES_PER_S
            except BlockingIOError:
                if not poller.poll(max(0.0, until - time.monotonic()) * 1000):
                    raise TimeoutError(errno.ETIMEDOUT, "the client does not read") from None


class Reader(threading.Thread):
    """simple_websocket's thread, which tells whoever waits that it has ended, however it ended."""

    def __init__(self, target: Callable[[], None]) -> None:
        super().__init__(target=target, name="reader", daemon=True)
        self._server: Any = target.__self__  # type: ignore[attr-defined]
        self._server.input_buffer = Waiting(self._server)

    def run(self) -> None:
        """Read until the connection ends."""
        try:
            super().run()
        finally:
            self._server.connected = False
            self._server.event.set()


class Waiting(list[str | bytes]):
    """Frames that have come and wait to be looked at; too many end the connection."""

    def __init__(self, server: Any) -> None:
        super().__init__()
        self._server = server

    def append(self, frame: str | bytes) -> None:
        """Add a frame. Raises ConnectionAbortedError, and says why to the client, if too much waits already."""
        if len(self) >= MOST_FRAMES or sum(map(len, self)) + len(frame) > MOST_WAITING:
            with contextlib.suppress(LocalProtocolError):
                self._server.close(CloseReason.POLICY_VIOLATION, "More frames than can be looked at: wait for answers.")
            raise ConnectionAbortedError(errno.ECONNABORTED, "flooded")
        super().append(frame)
