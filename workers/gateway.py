"""The Celery job `gateway.admit`: admit what is pending, batch by batch, until nothing more fits."""

from __future__ import annotations

from app import publisher
from app.celery import celery_app
from app.db import transaction
from app.queues import ADMIT
from app.tasks.admit import admit


@celery_app.task(name=ADMIT)
def admit_pending() -> None:
    """Answer the bell first: whoever rings from now on is heard again, whatever this pass still sees."""
    publisher.answer()
    more = True
    while more:
        with transaction() as db:
            more = admit(db)
