"""The Celery job `gateway.deliver`: deliver what was accepted, batch by batch, until nothing waits."""

from __future__ import annotations

from app import publisher
from app.celery import celery_app
from app.db import statements
from app.messages.deliver import deliver
from app.queues import DELIVER, Queue


@celery_app.task(name=DELIVER)
def deliver_pending() -> None:
    """Deliver accepted messages to their inboxes."""
    # Answered before the look: whoever rings from now on is not missed.
    publisher.answer(Queue.GATEWAY, publisher.MESSAGES)
    more = True
    while more:
        with statements() as db:
            more = deliver(db)
