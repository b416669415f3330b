"""Reports: what a running program prints and says of its progress, gathered into a few events a second."""

from __future__ import annotations

import logging
import time
from typing import Any

from sqlalchemy.exc import SQLAlchemyError

from app.db import single
from app.tasks.claim import Claim
from app.tasks.report import report
from schema.tasks import EventKind

log = logging.getLogger(__name__)

#: Each flush writes at most one event a stream and one of progress, so this bounds events a second.
_FLUSH_S = 0.2
_CUT = "\n[further output is not shown live]\n"


class Reports:
    """The reports of one attempt. Used from the thread that runs it."""

    def __init__(self, claim: Claim, *, most_chars: int) -> None:
        """`most_chars`: how much of each stream becomes log events; the result keeps its own head and tail."""
        self._claim = claim
        #: Below 0: cut, and said so.
        self._room = {"stdout": most_chars, "stderr": most_chars}
        self._text = {"stdout": "", "stderr": ""}
        self._progress: dict[str, Any] | None = None
        # Of a short run everything is written at its end, at once.
        self._flushed_at = time.monotonic()

    def output(self, stream: str, text: str) -> None:
        """Take some output."""
        room = self._room[stream]
        if room >= 0:
            self._text[stream] += text[:room] if len(text) <= room else text[:room] + _CUT
            self._room[stream] = room - len(text)
        self.flush_if_due()

    def progress(self, percent: int, note: str | None) -> None:
        """Take a progress line; a later one replaces an earlier one that was not sent yet."""
        self._progress = {"progress": percent, **({"note": note} if note else {})}
        self.flush_if_due()

    def flush_if_due(self) -> None:
        """Send what has gathered, at most five times a second."""
        if time.monotonic() - self._flushed_at >= _FLUSH_S:
            self.flush()

    def flush(self) -> None:
        """Send what has gathered. Reports are for those who watch: a failure to write them is only logged."""
        events: list[tuple[EventKind, dict[str, Any]]] = [
            (EventKind.LOG, {"stream": stream, "text": text}) for stream, text in self._text.items() if text
        ]
        if self._progress:
            events.append((EventKind.PROGRESS, self._progress))
        self._flushed_at = time.monotonic()
        if not events:
            return
        try:
            with single() as db:
                report(db, self._claim.id, self._claim.attempt, events)
        except SQLAlchemyError as exc:
            log.warning("report lost: %s", exc, extra={"task_id": self._claim.id})
        self._text = dict.fromkeys(self._text, "")
        self._progress = None
