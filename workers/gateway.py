"""The Celery job `gateway.admit`: admit what is pending, batch by batch, until nothing more fits."""

from __future__ import annotations

import threading
import time

from app import publisher
from app.celery import celery_app
from app.db import statements
from app.queues import ADMIT, Queue
from app.tasks.admit import admit

#: An admission costs nearly the same for one task as for fifty. So one that found several gives those to come some time
#: to gather, in seconds for each that it found, and at the most. A task that comes alone never waits.
_GATHER_S = 0.003
_GATHER_MOST_S = 0.05


class Gate:
    """Where tasks are let in: one admission at a time in this process."""

    def __init__(self) -> None:
        self._turn = threading.Lock()
        self._next_at = 0.0

    def open(self) -> None:
        """Admit until nothing more fits."""
        with self._turn:
            time.sleep(max(0.0, self._next_at - time.monotonic()))
            began = time.monotonic()
            # Answered only now: all who have rung so far are seen below, so one envelope at most waits for its turn.
            publisher.answer(Queue.GATEWAY)
            admitted, more = 0, True
            while more:
                with statements() as db:
                    done = admit(db)
                admitted, more = admitted + done.admitted, done.more
            self._next_at = began + min(_GATHER_S * admitted, _GATHER_MOST_S) if admitted > 1 else 0.0


_gate = Gate()


@celery_app.task(name=ADMIT)
def admit_pending() -> None:
    """Admit what is pending."""
    _gate.open()
