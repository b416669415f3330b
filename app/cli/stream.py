"""Following what happens: the API's stream of events, taken up again wherever a connection ends."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import Any, TypeVar

from app.cli.client import ApiError, Away, Busy, Client

#: Seconds without any answer after which the API is given up.
_PATIENCE_S = 120.0
#: Pauses between two tries: none where something has come since the last one, then these, doubled in between.
_PAUSES_S = (0.1, 5.0)

Json = dict[str, Any]
Answer = TypeVar("Answer")


class Patience:
    """How long, and how often, an API is tried that does not answer, or not with what it is asked for.

    Only silence is given up, after two minutes. An API that says that it cannot now, as with 503 where all places for
    streams are taken, is alive: it is tried for as long as it says so, every five seconds in the end.
    """

    def __init__(self) -> None:
        self.renew()

    def extend(self) -> None:
        """It has answered: it may be away for the whole time from now on."""
        self._until = time.monotonic() + _PATIENCE_S

    def renew(self) -> None:
        """It has answered with what was wanted: the next try need not wait."""
        self.extend()
        self._pause = 0.0

    def wait(self, reason: Away) -> None:
        """Wait until it is time to try again. Raises the reason if it has been silent for long enough."""
        if isinstance(reason, Busy):
            self.extend()
        elif time.monotonic() > self._until:
            raise reason
        time.sleep(self._pause)
        shortest, longest = _PAUSES_S
        self._pause = min(max(2 * self._pause, shortest), longest)


def patiently(ask: Callable[[], Answer]) -> Answer:
    """What the API answers, asked again with patience while it is away. Raises ApiError."""
    patience = Patience()
    while True:
        try:
            return ask()
        except Away as exc:
            patience.wait(exc)


def follow(client: Client, **of: str) -> Iterator[Json]:
    """What happens to a thing, from the first event to the last, each once; of what does not end, without end.

    Args:
        of: one of `task_id`, `workflow_id`, `session_id` and `agent_id`.

    Raises:
        ApiError: the API refuses, or does not answer for two minutes. One that is busy is asked again.
    """
    patience = Patience()
    cursor: str | None = None
    while True:
        # That it ends says nothing: whether anything is left is what the next answer tells.
        reason = Away("The API ends its streams before anything has come.")
        try:
            with client.stream("/events/stream", cursor, **of) as chunks:
                if chunks is None:
                    return
                patience.extend()
                for its_cursor, happened in _frames(chunks):
                    if happened is None:
                        patience.extend()
                        continue
                    patience.renew()
                    cursor = its_cursor or cursor
                    yield happened
        except Away as exc:
            reason = exc
        patience.wait(reason)


class News:
    """Tells that something has happened to a thing, not what."""

    def __init__(self, client: Client, **of: str) -> None:
        self._happened = threading.Event()
        self._over = threading.Event()
        threading.Thread(target=self._listen, args=(client, of), name="news", daemon=True).start()

    def wait(self, not_before: float, most_s: float) -> None:
        """Wait until something happens, but no longer than `most_s`, and not before this time unless it is the end.

        Where nothing is told, because it was the end or the API refuses to, this waits for the time alone.
        """
        if self._over.is_set():
            return time.sleep(max(0.0, not_before - time.monotonic()))
        self._happened.wait(most_s)
        self._over.wait(max(0.0, not_before - time.monotonic()))
        self._happened.clear()

    def _listen(self, client: Client, of: dict[str, str]) -> None:
        with suppress(ApiError):
            for _ in follow(client, **of):
                self._happened.set()
        self._over.set()
        self._happened.set()


def _frames(chunks: Iterable[bytes]) -> Iterator[tuple[str | None, Json | None]]:
    """The cursor and the data of each whole frame; of one that only keeps the connection alive, None.

    What was cut off in the middle is left out, for it comes again.
    """
    left = b""
    for chunk in chunks:
        # Lines end at line ends alone: what else Python takes for one may be a letter of the data.
        *frames, left = (left + chunk).replace(b"\r\n", b"\n").split(b"\n\n")
        for frame in frames:
            fields = dict(_field(line) for line in frame.decode(errors="replace").split("\n"))
            yield fields.get("id"), _parsed(fields["data"]) if "data" in fields else None


def _field(line: str) -> tuple[str, str]:
    name, _, value = line.partition(":")
    return name, value.removeprefix(" ")


def _parsed(data: str) -> Json:
    try:
        value = json.loads(data)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise ApiError("The API sends events that are none of clawq's.")
    return value
