"""The artifacts of one run as they arrive; checked again, since a program that broke out could send anything."""

from __future__ import annotations

import io
import json
import os
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from typing import IO, Any

from app.tasks.artifacts import MAX_ARTIFACT_BYTES, MAX_ARTIFACT_NAME_BYTES, MAX_ARTIFACTS, MAX_ARTIFACTS_BYTES
from workers.sandbox.collect import SENTENCES
from workers.sandbox.frames import CHUNK, DONE, FILE, FrameError
from workers.sandbox.output import storable
from workers.sandbox.spec import Artifact

#: What the supervisor is told to keep to.
BOUNDS: Mapping[str, int] = {
    "files": MAX_ARTIFACTS,
    "file_bytes": MAX_ARTIFACT_BYTES,
    "bytes": MAX_ARTIFACTS_BYTES,
    "name_bytes": MAX_ARTIFACT_NAME_BYTES,
}
#: Bytes that stay in memory; beyond, a temporary file without a name takes them all.
_IN_MEMORY = 256 << 10
#: Characters of a sentence about a file that was left behind.
_SENTENCE = 200


class Basket:
    """Takes the frames that follow the end frame; where the worker's disk has no room, it takes them and keeps none."""

    def __init__(self) -> None:
        self._file: IO[bytes] | None = None
        self._artifacts: list[Artifact] = []
        self._left: list[str] = []
        self._missing = 0
        self._has_room = True
        #: Whether all has arrived.
        self.full = False

    def hear(self, kind: bytes, payload: bytes) -> None:
        """Take a frame. Raises FrameError if no supervisor of ours would have sent it."""
        try:
            if kind == FILE and self._has_room:
                self._begin(**json.loads(payload))
            elif kind == CHUNK and self._has_room:
                self._add(payload)
            elif kind == DONE:
                self._left = [storable(str(line)[:_SENTENCE]) for line in json.loads(payload)["left"][:SENTENCES]]
                self.full = True
        except (ValueError, TypeError, KeyError, RecursionError) as exc:
            raise FrameError(f"artifacts: {exc}") from exc
        except OSError:
            self._give_up()

    def artifacts(self) -> tuple[Artifact, ...]:
        """Those that arrived whole."""
        whole = self._artifacts[:-1] if self._missing else self._artifacts
        return tuple(whole)

    def left(self) -> tuple[str, ...]:
        """What did not come, one sentence each."""
        if not self._has_room:
            return (*self._left, "The worker had no room for the artifacts.")
        if self.full and not self._missing:
            return tuple(self._left)
        return (*self._left, "The artifacts did not arrive completely.")

    def close(self) -> None:
        """Forget the contents."""
        if self._file:
            self._file.close()

    def _begin(self, name: str, size: int) -> None:
        if not isinstance(name, str) or type(size) is not int:
            raise TypeError("not a name and a size")
        known = {artifact.name for artifact in self._artifacts}
        parts = name.split("/")
        if len(known) >= MAX_ARTIFACTS or name in known or len(name.encode()) > MAX_ARTIFACT_NAME_BYTES or "\0" in name:
            raise ValueError("a name that is not one")
        if any(part in ("", ".", "..") for part in parts):
            raise ValueError("a name that leads elsewhere")
        start = sum(artifact.size for artifact in self._artifacts)
        if self._missing or not 0 <= size <= MAX_ARTIFACT_BYTES or start + size > MAX_ARTIFACTS_BYTES:
            raise ValueError("a size that is not allowed")
        self._file = self._file or tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY)  # noqa: SIM115
        self._artifacts.append(
            Artifact(name=name, size=size, content=io.BufferedReader(_Part(self._file, start, size)))
        )
        self._missing = size

    def _add(self, data: bytes) -> None:
        if self._file is None or len(data) > self._missing:
            raise ValueError("more than was announced")
        self._missing -= len(data)
        self._file.seek(0, os.SEEK_END)
        self._file.write(data)
        # A full disk must show here, not when the artifact is read.
        self._file.flush()

    def _give_up(self) -> None:
        """Keep none, also of those that are whole: a failed move from memory to the disk may have lost them."""
        self._has_room = False
        self._missing = 0
        if self._file:
            # It tries once more to write what it could not.
            with suppress(OSError):
                self._file.close()
            self._file = None
        self._artifacts.clear()


class _Part(io.RawIOBase):
    """One artifact in the file that all of a run share: they may be more than a worker may open."""

    def __init__(self, file: IO[bytes], start: int, size: int) -> None:
        self._file, self._start, self._size, self._position = file, start, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._position = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        return self._position

    def readinto(self, buffer: Any) -> int:
        self._file.seek(self._start + self._position)
        data = self._file.read(max(0, min(len(buffer), self._size - self._position)))
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)
