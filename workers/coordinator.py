"""The Celery job `workflows.advance`: look at workflows and carry them on."""

from __future__ import annotations

import logging

from app import publisher
from app.celery import celery_app
from app.db import statements
from app.queues import ADVANCE, Queue
from app.workflows.advance import advance

log = logging.getLogger(__name__)


@celery_app.task(name=ADVANCE)
def advance_workflows(ids: list[str]) -> None:
    """Look at each of these workflows, in a transaction of its own."""
    for workflow_id in ids:
        # Answered before the look: whoever rings from now on is not missed.
        publisher.answer(Queue.COORDINATOR, workflow_id)
        try:
            with statements() as db:
                advance(db, workflow_id)
        except Exception:
            # The others are nobody's fault; the clock asks for this one again.
            log.exception("the look at a workflow failed", extra={"workflow_id": workflow_id})
