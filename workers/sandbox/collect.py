"""Sends the artifacts of a program: the regular files under its out directory, once all its processes are dead.

Names, links and modes are the program's, and hostile. Nothing else runs here any more, so nothing changes under us.
This file is sent into the sandbox as source: standard library only, Python 3.8 and later.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from typing import Any

from workers.sandbox.frames import CHUNK, DONE, FILE
from workers.sandbox.lean import suppress, to_json

#: Directories below out that are looked into, one in the other.
DEPTH = 8
#: Entries that are looked at.
ENTRIES = 20_000
CHUNK_BYTES = 65536
#: Characters that turn the text around them, as nobody who reads a list of names expects.
BIDI = frozenset("\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
#: Sentences about what was left behind, and characters of a name in them.
SENTENCES, SHOWN = 20, 80


class Collection:
    """One collection of artifacts within the bounds {"files", "file_bytes", "bytes", "name_bytes"}."""

    def __init__(self, bounds: dict[str, int], send: Callable[[bytes, bytes], None]) -> None:
        self._bounds, self._send = bounds, send
        self._files = self._bytes = self._entries = 0
        self._left: list[str] = []

    def run(self, workspace: str) -> None:
        """Send the artifacts and what was left behind. Whatever is wrong with a file costs only that file."""
        out = os.path.join(workspace, "out")
        try:
            for directory in (workspace, out):
                _open_up(directory)
            self._collect(out, "", DEPTH)
        except OSError as exc:
            self._leave("out", str(exc.strerror))
        self._send(DONE, to_json({"left": self._left}).encode())

    def _collect(self, directory: str, prefix: str, depth: int) -> None:
        for name in sorted(os.listdir(os.fsencode(directory))):
            self._entries += 1
            if self._files >= self._bounds["files"]:
                self._leave(prefix or "out", f"there are more than {self._bounds['files']} files")
                return
            if self._entries > ENTRIES:
                self._leave(prefix or "out", f"there are more than {ENTRIES} entries")
                return
            try:
                self._take(os.path.join(os.fsencode(directory), name), prefix + _checked(name), depth)
            except _Unwanted as exc:
                self._leave(prefix + ascii(name)[2:-1], str(exc))
            except OSError as exc:
                self._leave(prefix + ascii(name)[2:-1], str(exc.strerror))

    def _take(self, path: bytes, name: str, depth: int) -> None:
        status = os.lstat(path)
        if stat.S_ISDIR(status.st_mode):
            if depth == 0:
                raise _Unwanted("it lies too deep")
            _open_up(os.fsdecode(path))
            self._collect(os.fsdecode(path), name + "/", depth - 1)
        elif not stat.S_ISREG(status.st_mode):
            raise _Unwanted("it is not a regular file")
        elif len(name.encode()) > self._bounds["name_bytes"]:
            raise _Unwanted(f"its name is longer than {self._bounds['name_bytes']} bytes")
        elif status.st_size > self._bounds["file_bytes"]:
            raise _Unwanted(f"it is larger than {self._bounds['file_bytes']} bytes")
        elif self._bytes + status.st_size > self._bounds["bytes"]:
            raise _Unwanted(f"all together are larger than {self._bounds['bytes']} bytes")
        else:
            self._forward(path, name, status.st_size)

    def _forward(self, path: bytes, name: str, size: int) -> None:
        os.chmod(path, 0o600)
        with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW), "rb", buffering=0) as file:
            self._files += 1
            self._bytes += size
            self._send(FILE, to_json({"name": name, "size": size}).encode())
            for chunk in _chunks(file, size):
                self._send(CHUNK, chunk)

    def _leave(self, name: str, why: str) -> None:
        sentence = f"{name[:SHOWN]}: {why}"
        if len(self._left) < SENTENCES and sentence not in self._left:
            self._left.append(sentence)


class _Unwanted(Exception):
    """Why a file is no artifact."""


def _checked(name: bytes) -> str:
    try:
        text = name.decode()
    except UnicodeDecodeError:
        raise _Unwanted("its name is not UTF-8") from None
    # Most runs have none to look at.
    import unicodedata

    if any(character in BIDI or unicodedata.category(character) in ("Cc", "Zl", "Zp") for character in text):
        raise _Unwanted("its name has control characters")
    return text


def _open_up(directory: str) -> None:
    """Make a directory of ours readable, whatever its mode. Raises OSError if it is none."""
    if not stat.S_ISDIR(os.lstat(directory).st_mode):
        raise NotADirectoryError(0, "it is not a directory")
    with suppress(PermissionError):
        os.chmod(directory, 0o700)


def _chunks(file: Any, size: int) -> Iterator[bytes]:
    while size > 0:
        chunk = file.read(min(size, CHUNK_BYTES))
        if not chunk:
            return
        size -= len(chunk)
        yield chunk
