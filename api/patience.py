"""Patience: how long gunicorn's threads wait for what a client has begun to say.

Without an end to it a few clients that stop in the middle of a request occupy all threads. TLS ends in front of this.
"""

from __future__ import annotations

import contextlib
import errno
import math
import select
import socket
import time
from typing import Any

from gunicorn.workers.gthread import ThreadWorker  # type: ignore[import-untyped]

from api.closing import closing

#: Seconds for a request to arrive, its body included, and the bytes that earn it one second more.
REQUEST_S = 10.0
BYTES_PER_S = 64 * 1024
#: Seconds in which a client that has its answer may ask again of the same thread. Gunicorn's own way back, through the
#: thread that accepts, costs a fifth of a small request.
AGAIN_S = 0.002
#: Seconds of such a turn, so that others get theirs: whoever asks for slow things asks once.
_TURN_S = 0.02
#: Seconds in which what nobody read of a request is thrown away. Closing at once would take the answer with it.
LINGER_S = 1.0


class Client(socket.socket):
    """A client's socket, whose reads end when the client's time is up."""

    _until = math.inf
    _bytes_per_s = math.inf

    def allow(self, seconds: float, bytes_per_s: float = math.inf) -> None:
        """Give the client so much time from now on, and more with each byte that it sends."""
        self._until = time.monotonic() + seconds
        self._bytes_per_s = bytes_per_s

    def asks_again(self) -> bool:
        """Whether the client's next request comes at once."""
        poller = select.poll()
        poller.register(self, select.POLLIN)
        return bool(poller.poll(AGAIN_S * 1000))

    def recv(self, bufsize: int, flags: int = 0, /) -> bytes:
        """Read.

        Raises:
            ConnectionResetError: the client's time is up. Gunicorn takes it as if the client had gone.
        """
        left = self._until - time.monotonic()
        if left <= 0:
            raise _too_slow()
        data = self._read(bufsize, flags, left)
        self._until += len(data) / self._bytes_per_s
        return data

    def _read(self, bufsize: int, flags: int, left: float) -> bytes:
        bound = self.gettimeout()
        if bound is None:
            # Nearly always it is there: one call to the system, and one release of the interpreter's lock.
            with contextlib.suppress(BlockingIOError):
                return super().recv(bufsize, flags | socket.MSG_DONTWAIT)
        self.settimeout(left if bound is None else min(left, bound))
        try:
            return super().recv(bufsize, flags)
        except TimeoutError:
            raise _too_slow() from None
        finally:
            self.settimeout(bound)


class Worker(ThreadWorker):
    """Gunicorn's thread worker with such sockets."""

    def handle_exit(self, sig: int, frame: Any) -> None:
        """Asked to end: sockets and streams first, which would keep it for ever."""
        closing().begin()
        super().handle_exit(sig, frame)

    def handle(self, conn: Any) -> Any:
        """Answer requests as they come. False: the connection is done with; anything else is gunicorn's own affair."""
        if not isinstance(conn.sock, Client):
            conn.sock = Client(fileno=conn.sock.detach())
        turn_ends = time.monotonic() + _TURN_S
        while True:
            conn.sock.allow(REQUEST_S, BYTES_PER_S)
            kept = super().handle(conn)
            if kept is not True or not self.alive or time.monotonic() > turn_ends or not conn.sock.asks_again():
                break
        if kept is False:
            _linger(conn.sock)
        return kept

    def handle_request(self, req: Any, conn: Any) -> Any:
        """Answer a request whose head has arrived; the rest, if nobody wanted it, gets little time."""
        try:
            return super().handle_request(req, conn)
        finally:
            conn.sock.allow(LINGER_S)


def _linger(client: Client) -> None:
    """Wait for the client to hang up, here and not where gunicorn would: in the one thread that accepts."""
    client.allow(LINGER_S)
    with contextlib.suppress(OSError):
        client.shutdown(socket.SHUT_WR)
        while client.recv(64 * 1024):
            pass
    client.allow(0)


def _too_slow() -> ConnectionResetError:
    return ConnectionResetError(errno.ECONNRESET, "the request did not arrive in time")
