"""Log files of supervised processes, bounded in size."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, BinaryIO

MAX_BYTES = 10 * 1024 * 1024


class LogFile:
    """Takes what a process prints. Past `max_bytes` the file becomes `NAME.log.1`, and the one before that goes.

    Circus calls it with chunks of output and expects `open` and `close`. A full disk loses lines, not the stack.
    """

    def __init__(self, path: Path, max_bytes: int = MAX_BYTES) -> None:
        self.path = path
        self._max_bytes = max_bytes
        self._file: BinaryIO | None = None

    def __call__(self, chunk: dict[str, Any]) -> None:
        self.write(chunk["data"])

    def open(self) -> None:
        if self._file is None:
            fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            self._file = os.fdopen(fd, "ab", buffering=0)

    def write(self, data: bytes) -> None:
        try:
            self.open()
            assert self._file is not None
            if self._file.tell() + len(data) > self._max_bytes:
                self.close()
                self.path.replace(self.path.with_name(f"{self.path.name}.1"))
                self.open()
            self._file.write(data)
        except OSError:
            return

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


def tail(path: Path | None, lines: int = 15) -> list[str]:
    """The last lines of a log, or none if there is no such file."""
    if path is None:
        return []
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - 16_384))
            text = file.read().decode(errors="replace")
    except OSError:
        return []
    return text.splitlines()[-lines:]
