"""Reaping: a thread of the execution worker that removes what dead workers left on this machine."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from functools import cache

from sqlalchemy.exc import SQLAlchemyError

from app import agents, metrics
from app.db import statements
from app.tasks.find import open_containers
from workers.sandbox.spec import Sandbox

log = logging.getLogger(__name__)

_EVERY_S = 10


class Reaping:
    """Reaps at the start and every ten seconds, in a daemon thread: an engine may take its time to answer."""

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
                for container_id in self._sandbox.reap(_orphans()):
                    metrics.SANDBOXES_REAPED.inc()
                    log.info("reaped container %s", container_id[:12])
            except (SQLAlchemyError, OSError) as exc:
                log.warning("not reaped: %s", exc)
            if self._closed.wait(_EVERY_S):
                return


def _orphans() -> Callable[[str, str], bool]:
    """Tells what nobody owns: its worker sends no heartbeat, and no attempt is open that runs in it."""

    @cache
    def known() -> tuple[set[str], set[str]]:
        with statements() as db:
            return agents.instances(db), open_containers(db)

    def is_orphan(instance: str, container_id: str) -> bool:
        # First asked when containers have been listed: who made one of those had registered by then.
        alive, in_use = known()
        return instance not in alive and container_id not in in_use

    return is_orphan
