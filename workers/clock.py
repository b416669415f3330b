"""The clock: Celery's beat process with a scheduler of our own. `celery -A app beat` starts it; two are harmless.

Each tick takes due rows from Postgres, compared with Postgres' own time, and does what rows cannot do for themselves:
send envelopes again, take back leases, fail what is overdue, start what came due.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

from celery.beat import Scheduler
from sqlalchemy.exc import SQLAlchemyError

from app import agents, epoch, idempotency
from app.db import Db, is_out_of_time, statements
from app.health import HealthServer
from app.memory import forget, outbox
from app.messages import deliver
from app.tasks import recover
from app.workflows.sweep import sweep as sweep_workflows

log = logging.getLogger(__name__)

_TICK_S = 1.0
_PORT = 8004
#: Longer than a tick can take while Postgres does not answer: each duty gives up after its own bound.
_STALL_S = 120
#: Full batches of one duty in one tick, so that a large backlog of one does not keep the others waiting.
_ROUNDS = 10

#: In this order: what is overdue is not sent again, what was taken back is rung for, what Redis lost is sent at once.
_DUTIES: tuple[Callable[[Db], Any], ...] = (
    recover.expire,
    recover.take_back,
    epoch.watch,
    recover.redispatch,
    recover.start_due,
    sweep_workflows,
    deliver.ring_due,
    outbox.ring_due,
    forget.sweep,
    agents.sweep,
    idempotency.sweep,
)
#: What ends tasks also ends or releases all below them. Where a batch of that takes too long, one at a time does not.
_HEAVY = (recover.expire, recover.take_back)


class Clock(Scheduler):
    """Ticks once a second. Celery makes instances only to print them, so nothing is connected before the first tick."""

    max_interval = _TICK_S
    _server: HealthServer | None = None
    #: time.monotonic() of the last tick, and of the last one whose duties were all done.
    _ticked_at = 0.0
    _done_at = 0.0

    def setup_schedule(self) -> None:
        """Schedules are rows, not entries of Celery's."""

    def tick(self, *_: Any, **__: Any) -> float:
        """Do every duty once. Returns the seconds to wait."""
        if self._server is None:
            self._server = HealthServer(default_port=_PORT, health=self._health, ready=self._ready)
        started = time.monotonic()
        self._ticked_at = started
        if all([_do(duty) for duty in _DUTIES]):
            self._done_at = started
        return max(0.0, _TICK_S - (time.monotonic() - started))

    def _health(self) -> tuple[bool, dict[str, Any]]:
        age = time.monotonic() - self._ticked_at
        return age < _STALL_S, {"last_tick_s": round(age, 1)}

    def _ready(self) -> tuple[bool, dict[str, Any]]:
        age = time.monotonic() - self._done_at
        return age < _STALL_S, {"last_duties_s": round(age, 1)}


def _do(duty: Callable[..., Any], *batch: int) -> bool:
    """One duty, in transactions of its own; a failure is logged and left to the next tick."""
    for _ in range(_ROUNDS):
        try:
            with statements() as db:
                done = duty(db, *batch)
        except SQLAlchemyError as exc:
            log.warning("%s failed: %s", duty.__name__, exc)
            return duty in _HEAVY and not batch and is_out_of_time(exc) and _do(duty, 1)
        except Exception:
            # Whatever it is, it must not keep the other duties from being done.
            log.exception("%s failed", duty.__name__)
            return False
        if done != (batch or (recover.BATCH,))[0]:
            break
    return True
