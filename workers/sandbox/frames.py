"""The frames between a worker and the supervisor inside a sandbox: one byte of kind, four of length, the payload.

This file is sent into the sandbox as source: standard library only, Python 3.8 and later.
"""

from __future__ import annotations

import struct

#: To the supervisor: the job (JSON, once) and "kill everything and report".
JOB, KILL = b"J", b"K"
#: From the supervisor: waiting for a job; about to start the program; its output; its progress (JSON).
READY, STARTED, STDOUT, STDERR, PROGRESS = b"r", b"s", b"o", b"e", b"p"
#: Then how it ended (JSON), its artifacts (each a JSON head, then its bytes), and what was left behind (JSON, last).
END, FILE, CHUNK, DONE = b"x", b"f", b"c", b"d"

#: Longest payload in bytes; a job carries its files.
MAX_PAYLOAD = 96 << 20
#: Longest payload in bytes that a supervisor sends.
MAX_ANSWER = 1 << 20

_HEADER = struct.Struct(">cI")


class FrameError(ValueError):
    """The other side does not speak this protocol."""


def pack(kind: bytes, payload: bytes = b"") -> bytes:
    """One frame. Raises FrameError if the payload is longer than MAX_PAYLOAD."""
    if len(payload) > MAX_PAYLOAD:
        raise FrameError(f"a frame of {len(payload)} bytes is longer than {MAX_PAYLOAD}")
    return _HEADER.pack(kind, len(payload)) + payload


class Unpacker:
    """Cuts a stream of bytes into frames of at most `most` bytes of payload."""

    def __init__(self, most: int = MAX_PAYLOAD) -> None:
        self._most = most
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[tuple[bytes, bytes]]:
        """The frames that `data` completes, as (kind, payload). Raises FrameError on an impossible length."""
        self._buffer += data
        frames = []
        start = 0
        while len(self._buffer) - start >= _HEADER.size:
            kind, length = _HEADER.unpack_from(self._buffer, start)
            if length > self._most:
                raise FrameError(f"a frame announces {length} bytes")
            end = start + _HEADER.size + length
            if len(self._buffer) < end:
                break
            frames.append((kind, bytes(self._buffer[start + _HEADER.size : end])))
            start = end
        del self._buffer[:start]
        return frames
