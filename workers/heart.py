"""The heart of a worker process: keeps its leases and its registration alive, and says when to stop.

One thread for all slots looks at Postgres every half second for cancels and deadlines, and sends a heartbeat every
third of a lease. A second one gives holds up before their leases run out, so that no program is still running when
another worker may start it again; it never asks Postgres, so one that hangs does not stop it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Literal

from sqlalchemy.exc import SQLAlchemyError

from app.db import statements
from app.settings import settings
from app.tasks import lease
from app.tasks.claim import Claim

log = logging.getLogger(__name__)

Reason = Literal["cancelled", "overdue", "lost", "drain"]

#: Seconds between looks; a short lease is looked at more often, so that it can be kept and given up in time.
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
        for part in (self._run, self._watch):
            threading.Thread(target=part, name="heart", daemon=True).start()

    def close(self) -> None:
        """Stop beating."""
        self._closed.set()

    def drain(self, *, at_once: bool = False) -> None:
        """Hand back whatever is still running after `drain_s`, or at once. Asked again, it gives no more time."""
        drain_at = time.monotonic() + (0.0 if at_once else settings().drain_s)
        if self._drain_at is None or drain_at < self._drain_at:
            self._drain_at = drain_at

    def hurry(self) -> None:
        """Register at the next look: what is registered has changed."""
        self._beat_at = 0.0

    @property
    def healthy(self) -> bool:
        """Whether Postgres has heard from this worker within a lease."""
        return time.monotonic() - self.last_beat < settings().lease_s

    @contextmanager
    def holding(self, claims: Sequence[Claim], asked_at: float) -> Iterator[list[Hold]]:
        """Keep the leases of `claims`, asked for at `asked_at` (time.monotonic()), for the length of the block."""
        good_until = asked_at + settings().lease_s
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
        while not self._closed.wait(_look_s()):
            try:
                self._ask(self._all())
            except SQLAlchemyError as exc:
                log.warning("no heartbeat: %s", exc)

    def _watch(self) -> None:
        while not self._closed.wait(_look_s()):
            self._give_up(self._all())

    def _all(self) -> list[Hold]:
        with self._lock:
            return list(self._holds.values())

    def _ask(self, holds: list[Hold]) -> None:
        now = time.monotonic()
        beat = now >= self._beat_at
        if beat:
            self._register()
        if holds:
            ask = lease.heartbeat if beat else lease.look
            with statements() as db:
                answers = ask(db, [(h.claim.id, h.claim.attempt) for h in holds])
            # Those that have ended since are not lost.
            for hold in self._all():
                if hold in holds:
                    self._heed(hold, answers.get((hold.claim.id, hold.claim.attempt)), now if beat else None)
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
            if now > hold.good_until - 2 * _look_s():
                hold.stop("lost")
            elif self._drain_at is not None and now > self._drain_at:
                hold.stop("drain")


def _look_s() -> float:
    return min(_LOOK_S, settings().lease_s / 6)
