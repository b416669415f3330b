"""Artifacts: from the sandbox into Postgres, file by file."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence

from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from app.db import is_out_of_time, statements
from app.settings import settings
from app.tasks.artifacts import keep
from app.tasks.claim import Claim
from workers.sandbox.spec import Artifact

log = logging.getLogger(__name__)

_RETRY_S = 0.5
#: More at once would not be faster, and take the connections that heartbeats and ends of tasks need.
_places = threading.BoundedSemaphore(2)


def keep_all(claim: Claim, artifacts: Sequence[Artifact]) -> bool:
    """Keep the files of an attempt, each in a transaction of its own, and close them whatever happens.

    While Postgres is away this tries again for as long as a lease lasts.

    Returns:
        Whether the attempt is still ours; if not, the rest was not kept.

    Raises:
        SQLAlchemyError: Postgres was away for too long, or does not take a file.
    """
    give_up = time.monotonic() + settings().lease_s
    try:
        return all(_keep(claim, artifact, give_up) for artifact in artifacts)
    finally:
        for artifact in artifacts:
            artifact.content.close()


def _keep(claim: Claim, artifact: Artifact, give_up: float) -> bool:
    while True:
        try:
            return _write(claim, artifact)
        except (OperationalError, InterfaceError, PoolTimeout) as exc:
            if is_out_of_time(exc) or time.monotonic() > give_up:
                raise
            log.warning("cannot keep an artifact, trying again: %s", exc, extra={"task_id": claim.id})
        threading.Event().wait(_RETRY_S)


def _write(claim: Claim, artifact: Artifact) -> bool:
    with _places, statements() as db:
        artifact.content.seek(0)
        return keep(db, claim.id, claim.attempt, artifact.name, artifact.content)
