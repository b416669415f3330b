"""The Celery job `tasks.run`: claim the ids of an envelope, run them, and write how they ended."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from celery.exceptions import Reject
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from app.celery import celery_app
from app.db import is_out_of_time, single, statements
from app.queues import RUN
from app.settings import settings
from app.tasks.claim import Claim, claim
from app.tasks.finish import finish
from app.tasks.retry import Outcome
from app.tasks.types import TASK_TYPES
from workers import node
from workers.execution import run_code
from workers.handlers import handle
from workers.heart import Hold

log = logging.getLogger(__name__)

_RETRY_S = 0.5


@celery_app.task(name=RUN, bind=True)
def run(self: Any, ids: list[str]) -> None:
    """Run what is still queued of `ids`. A repeated envelope claims nothing and is dropped quietly."""
    work(self.request, ids, _claim)


def work(request: Any, ids: list[str], take: Callable[[list[str], str], list[Claim]]) -> None:
    """Run what `take` claims of `ids` for this worker.

    Args:
        request: Celery's, of the job that this is.
        ids: tasks.
        take: claims those that may run; called with the ids and the worker's name.

    Raises:
        celery.exceptions.Reject: Postgres does not hear this worker; the envelope goes back, for one that it hears.
    """
    this = node.current()
    if not this.heart.healthy:
        threading.Event().wait(_RETRY_S)
        raise Reject("Postgres has not heard this worker for a lease", requeue=True)
    asked_at = time.monotonic()
    claims = take(ids, this.name)
    # It goes on whatever becomes of these tasks: what it brings in vain is left alone (app/workflows/enter.py).
    in_canvas = bool(request.chain or request.chord)
    with this.heart.holding(claims, asked_at) as holds:
        if inline := [hold for hold in holds if TASK_TYPES[hold.claim.task_type].inline]:
            _settle([(hold, handle(hold.claim)) for hold in inline], in_canvas)
        for hold in holds:
            if hold not in inline:
                _settle([(hold, _run_code(hold, this))], in_canvas)


def _claim(ids: list[str], worker: str) -> list[Claim]:
    """Claim, and once more if the connection was broken: nobody looked whether it still stands."""
    try:
        with single() as db:
            return claim(db, ids, worker)
    except (OperationalError, InterfaceError) as exc:
        if not exc.connection_invalidated:
            raise
    with single() as db:
        return claim(db, ids, worker)


def _run_code(hold: Hold, this: node.Node) -> Outcome:
    try:
        return run_code(hold, this.sandbox)
    except Exception as exc:
        log.exception("the sandbox failed", extra={"task_id": hold.claim.id, "attempt": hold.claim.attempt})
        return Outcome(kind="infra", error=f"{type(exc).__name__}: {exc}")


def _settle(ended: Sequence[tuple[Hold, Outcome]], in_canvas: bool = False) -> None:
    """Write outcomes, again and again while Postgres is away and the leases hold; after that the clock has them."""
    pairs: list[tuple[Claim, Outcome]] = [(hold.claim, outcome) for hold, outcome in ended]
    give_up = time.monotonic() + settings().lease_s
    while True:
        try:
            with statements() as db:
                ours = finish(db, pairs, in_canvas=in_canvas)
        except (OperationalError, InterfaceError, PoolTimeout) as exc:
            # Refused, gone, starting up, deadlocked, no connection left: nothing that is wrong with the outcome.
            if is_out_of_time(exc):
                _settle_apart(ended, exc, in_canvas)
                return
            if time.monotonic() > min(give_up, *(hold.good_until for hold, _ in ended)):
                raise
            log.warning("cannot write how it ended, trying again: %s", exc)
            threading.Event().wait(_RETRY_S)
            continue
        for hold, outcome in ended:
            _log(hold, outcome)
        for lost in {c.id for c, _ in pairs} - ours:
            log.warning("late result discarded: the lease had gone to another", extra={"task_id": lost})
        return


def _settle_apart(ended: Sequence[tuple[Hold, Outcome]], exc: Exception, in_canvas: bool) -> None:
    """Write outcomes one by one: one of them ends too much at once, and shall not keep its neighbours."""
    if len(ended) == 1:
        raise exc
    failed = None
    for one in ended:
        try:
            _settle([one], in_canvas)
        except (OperationalError, InterfaceError, PoolTimeout) as again:
            failed = again
    if failed:
        raise failed


def _log(hold: Hold, outcome: Outcome) -> None:
    # Thousands of inline tasks a second are not news.
    level = logging.DEBUG if TASK_TYPES[hold.claim.task_type].inline else logging.INFO
    ids = {"task_id": hold.claim.id, "attempt": hold.claim.attempt, "agent_id": node.current().agent_id}
    log.log(level, "%s %s", outcome.kind, outcome.error or "", extra=ids)
