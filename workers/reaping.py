"""Reaping: a thread of the execution worker that removes what attempts of dead workers left on this machine."""

from __future__ import annotations

import logging
import threading

from sqlalchemy.exc import SQLAlchemyError

from app.db import statements
from app.tasks.find import is_open
from workers.sandbox.spec import Sandbox

log = logging.getLogger(__name__)

_EVERY_S = 30


class Reaping:
    """Reaps at the start and every half minute, in a daemon thread: an engine may take its time to answer."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox
        self._closed = threading.Event()
        threading.Thread(target=self._run, name="reaping", daemon=True).start()

    def close(self) -> None:
        """Reap no more."""
        self._closed.set()

    def _run(self) -> None:
        while True:
            try:
                for attempt in self._sandbox.reap(_is_open):
                    log.info("reaped the sandbox of attempt %s", attempt)
            except (SQLAlchemyError, OSError) as exc:
                log.warning("not reaped: %s", exc)
            if self._closed.wait(_EVERY_S):
                return


def _is_open(name: str) -> bool:
    task_id, _, attempt = name.rpartition("-")
    with statements() as db:
        return is_open(db, task_id, int(attempt))
