"""The Celery job `workflows.advance`: look at workflows and carry them on."""

from __future__ import annotations

from app import publisher
from app.celery import celery_app
from app.db import statements
from app.queues import ADVANCE
from app.workflows.advance import advance


@celery_app.task(name=ADVANCE)
def advance_workflows(ids: list[str]) -> None:
    """Look at each of these workflows, in a transaction of its own."""
    for workflow_id in ids:
        # Answered before the look: whoever rings from now on is not missed.
        publisher.answer(workflow_id)
        with statements() as db:
            advance(db, workflow_id)
