"""What is kept of a program's output: the head and the tail of each stream, as text a database accepts."""

from __future__ import annotations

import codecs
from collections.abc import Callable

#: A run is killed when its output exceeds this many times what is kept of one stream.
HARD_CAP_FACTOR = 64

_decoder = codecs.getincrementaldecoder("utf-8")


class Keeper:
    """One output stream: decodes it as it arrives and keeps at most `limit` bytes, half of them from its end.

    Bytes that are not UTF-8 and NULs become U+FFFD, which sets `lossy`.
    """

    def __init__(self, limit: int, emit: Callable[[str], None] = lambda _text: None) -> None:
        self.lossy = False
        self._emit = emit
        self._decoder = _decoder("strict")
        self._head_limit = limit // 2
        self._tail_limit = limit - self._head_limit
        self._head = bytearray()
        self._tail = bytearray()
        self._dropped = 0

    @property
    def truncated(self) -> bool:
        return self._dropped > 0

    def feed(self, data: bytes) -> None:
        """Take the next bytes of the stream."""
        self._take(self._decode(data))

    def close(self) -> str:
        """Finish the stream: the text that was kept."""
        self._take(self._decode(b"", final=True))
        if not self._dropped:
            return (self._head + self._tail).decode()
        # The cuts may fall inside a character.
        head, tail = self._head.decode(errors="ignore"), self._tail.decode(errors="ignore")
        return f"{head}\n[… {self._dropped} bytes dropped …]\n{tail}"

    def _decode(self, data: bytes, *, final: bool = False) -> str:
        try:
            text = self._decoder.decode(data, final)
        except UnicodeDecodeError:
            pending, _ = self._decoder.getstate()
            self._decoder = _decoder("replace")
            self.lossy = True
            text = self._decoder.decode(pending + data, final)
        if "\0" in text:
            self.lossy = True
            text = text.replace("\0", "\ufffd")
        return text

    def _take(self, text: str) -> None:
        if not text:
            return
        self._emit(text)
        data = text.encode()
        room = self._head_limit - len(self._head)
        self._head += data[:room]
        self._tail += data[room:]
        excess = len(self._tail) - self._tail_limit
        if excess > 0:
            self._dropped += excess
            del self._tail[:excess]


def storable(text: str) -> str:
    """Without what a database refuses: NULs and halves of surrogate pairs."""
    return text.replace("\0", "\ufffd").encode(errors="replace").decode()
