"""The heart of a worker process: keeps its leases and its registration alive, and says when to stop.

One thread for all slots: a look at Postgres every half second for cancels and deadlines, and a heartbeat every third
of a lease. When Postgres cannot be reached, holds are given up before their leases run out, so that no program is
still running when another worker may start it again.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Literal

from sqlalchemy.exc import SQLAlchemyError

from app.db import transaction
from app.settings import settings
from app.tasks import lease
from app.tasks.claim import Claim

log = logging.getLogger(__name__)

Reason = Literal["cancelled", "overdue", "lost", "drain"]

_LOOK_S = 0.5


class Hold:
    """A claim while it runs here. `is_set()` makes it a sandbox's Stop."""

    def __init__(self, claim: Claim, good_until: float) -> None:
        self.claim = claim
        #: Why the program must stop; None while it may run.
        self.reason: Reason | None = None
        #: time.monotonic() until which the lease surely holds.
        self.good_until = good_until

    def is_set(self) -> bool:
        """Whether the program must stop."""
        return self.reason is not None

    def stop(self, reason: Reason) -> None:
        """Ask the program to stop; the first reason stands."""
        if self.reason is None:
            log.info("stopping: %s", reason, extra={"task_id": self.claim.id, "attempt": self.claim.attempt})
            self.reason = reason


class Heart:
    """Beats in a daemon thread from `start` to `close`."""

    def __init__(self, register: Callable[[], None]) -> None:
        """`register` tells Postgres that this worker lives; it is called every third of a lease."""
        self._register = register
        self._holds: dict[tuple[str, int], Hold] = {}
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._drain_at: float | None = None
        self._beat_at = 0.0
        #: time.monotonic() of the last successful heartbeat.
        self.last_beat = time.monotonic()

    def start(self) -> None:
        """Register, then beat. Raises sqlalchemy.exc.SQLAlchemyError if Postgres is not reachable."""
        self._register()
        threading.Thread(target=self._run, name="heart", daemon=True).start()

    def close(self) -> None:
        """Stop beating."""
        self._closed.set()

    def drain(self) -> None:
        """Hand back whatever is still running after `drain_s`."""
        self._drain_at = time.monotonic() + settings().drain_s

    @property
    def healthy(self) -> bool:
        """Whether Postgres has heard from this worker within a lease."""
        return time.monotonic() - self.last_beat < settings().lease_s

    @contextmanager
    def holding(self, claims: Sequence[Claim]) -> Iterator[list[Hold]]:
        """Keep the leases of `claims` for the length of the block."""
        good_until = time.monotonic() + settings().lease_s
        holds = [Hold(claim, good_until) for claim in claims]
        with self._lock:
            self._holds.update({(h.claim.id, h.claim.attempt): h for h in holds})
        try:
            yield holds
        finally:
            with self._lock:
                for hold in holds:
                    del self._holds[hold.claim.id, hold.claim.attempt]

    def _run(self) -> None:
        while not self._closed.wait(_LOOK_S):
            with self._lock:
                holds = list(self._holds.values())
            try:
                self._ask(holds)
            except SQLAlchemyError as exc:
                log.warning("no heartbeat: %s", exc)
            self._give_up(holds)

    def _ask(self, holds: list[Hold]) -> None:
        now = time.monotonic()
        beat = now >= self._beat_at
        if beat:
            self._register()
        if holds:
            ask = lease.heartbeat if beat else lease.look
            with transaction() as db:
                answers = ask(db, [(h.claim.id, h.claim.attempt) for h in holds])
            for hold in holds:
                self._heed(hold, answers.get(hold.claim.id), now if beat else None)
        if beat:
            self.last_beat = now
            self._beat_at = now + settings().lease_s / 3

    def _heed(self, hold: Hold, answer: lease.Held | None, beat_at: float | None) -> None:
        if answer is None:
            hold.stop("lost")
        elif answer.cancelled:
            hold.stop("cancelled")
        elif answer.overdue:
            hold.stop("overdue")
        if answer and beat_at is not None:
            hold.good_until = beat_at + settings().lease_s

    def _give_up(self, holds: list[Hold]) -> None:
        now = time.monotonic()
        for hold in holds:
            if now > hold.good_until - 2 * _LOOK_S:
                hold.stop("lost")
            elif self._drain_at is not None and now > self._drain_at:
                hold.stop("drain")
