"""The frames between a worker and the supervisor inside a sandbox: one byte of kind, four of length, the payload.

This file is sent into the sandbox as source: standard library only, Python 3.8 and later.
"""

from __future__ import annotations

import struct

#: To the supervisor: the job (JSON, once) and "kill everything and report".
JOB, KILL = b"J", b"K"
#: From the supervisor: about to start the program; its output; its progress (JSON); how it ended (JSON, last).
STARTED, STDOUT, STDERR, PROGRESS, END = b"s", b"o", b"e", b"p", b"x"

#: Longest payload in bytes; a job carries its files.
MAX_PAYLOAD = 96 << 20

_HEADER = struct.Struct(">cI")


class FrameError(ValueError):
    """The other side does not speak this protocol."""


def pack(kind: bytes, payload: bytes = b"") -> bytes:
    """One frame. Raises FrameError if the payload is longer than MAX_PAYLOAD."""
    if len(payload) > MAX_PAYLOAD:
        raise FrameError(f"a frame of {len(payload)} bytes is longer than {MAX_PAYLOAD}")
    return _HEADER.pack(kind, len(payload)) + payload


class Unpacker:
    """Cuts a stream of bytes into frames."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[tuple[bytes, bytes]]:
        """The frames that `data` completes, as (kind, payload). Raises FrameError on an impossible length."""
        self._buffer += data
        frames = []
        start = 0
        while len(self._buffer) - start >= _HEADER.size:
            kind, length = _HEADER.unpack_from(self._buffer, start)
            if length > MAX_PAYLOAD:
                raise FrameError(f"a frame announces {length} bytes")
            end = start + _HEADER.size + length
            if len(self._buffer) < end:
                break
            frames.append((kind, bytes(self._buffer[start + _HEADER.size : end])))
            start = end
        del self._buffer[:start]
        return frames
