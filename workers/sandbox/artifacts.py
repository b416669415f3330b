"""The artifacts of one run as they arrive; checked again, since a program that broke out could send anything."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from typing import IO

from workers.sandbox.collect import NAME_BYTES, SENTENCES
from workers.sandbox.frames import CHUNK, DONE, FILE, FrameError
from workers.sandbox.output import storable
from workers.sandbox.spec import Artifact

#: Bytes of a file, of all files of a run, and how many there may be.
FILE_BYTES, BYTES, FILES = 8 << 20, 32 << 20, 256
BOUNDS: Mapping[str, int] = {"files": FILES, "file_bytes": FILE_BYTES, "bytes": BYTES}
#: Bytes that stay in memory; beyond, a temporary file without a name takes them all.
_IN_MEMORY = 256 << 10
#: Characters of a sentence about a file that was left behind.
_SENTENCE = 200


class Basket:
    """Takes the frames that follow the end frame."""

    def __init__(self) -> None:
        self._file: IO[bytes] | None = None
        self._artifacts: list[Artifact] = []
        self._left: list[str] = []
        self._missing = 0
        #: Whether all has arrived.
        self.full = False

    def hear(self, kind: bytes, payload: bytes) -> None:
        """Take a frame. Raises FrameError if no supervisor of ours would have sent it."""
        try:
            if kind == FILE:
                self._begin(**json.loads(payload))
            elif kind == CHUNK:
                self._add(payload)
            elif kind == DONE:
                self._left = [storable(str(line)[:_SENTENCE]) for line in json.loads(payload)["left"][:SENTENCES]]
                self.full = True
        except (ValueError, TypeError, KeyError, RecursionError) as exc:
            raise FrameError(f"artifacts: {exc}") from exc

    def artifacts(self) -> tuple[Artifact, ...]:
        """Those that arrived whole."""
        whole = self._artifacts[:-1] if self._missing else self._artifacts
        return tuple(whole)

    def left(self) -> tuple[str, ...]:
        """What did not come, one sentence each."""
        if self.full and not self._missing:
            return tuple(self._left)
        return (*self._left, "The artifacts did not arrive completely.")

    def close(self) -> None:
        """Forget the contents."""
        if self._file:
            self._file.close()

    def _begin(self, name: str, size: int) -> None:
        if type(name) is not str or type(size) is not int:
            raise TypeError("a head that is not one")
        known = {artifact.name for artifact in self._artifacts}
        parts = name.split("/")
        if len(known) >= FILES or name in known or len(name.encode()) > NAME_BYTES or "\0" in name:
            raise ValueError("a name that is not one")
        if any(part in ("", ".", "..") for part in parts):
            raise ValueError("a name that leads elsewhere")
        start = sum(artifact.size for artifact in self._artifacts)
        if self._missing or not 0 <= size <= FILE_BYTES or start + size > BYTES:
            raise ValueError("a size that is not allowed")
        self._file = self._file or tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY)  # noqa: SIM115
        self._artifacts.append(Artifact(name=name, size=size, file=self._file, start=start))
        self._missing = size

    def _add(self, data: bytes) -> None:
        if self._file is None or len(data) > self._missing:
            raise ValueError("more than was announced")
        self._missing -= len(data)
        self._file.write(data)
