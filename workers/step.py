"""The Celery job `workflows.step`: a chain or chord has come to these tasks; let them in, claim and run them."""

from __future__ import annotations

from typing import Any

from app.celery import celery_app
from app.db import statements
from app.queues import STEP
from app.tasks.claim import Claim, claim
from app.workflows.enter import enter
from workers import node
from workers.run import work


@celery_app.task(name=STEP, bind=True)
def step(self: Any, ids: list[str]) -> None:
    """Run what may run of `ids` now. A repeated envelope finds nothing and is dropped quietly."""
    work(self.request, ids, _take)


def _take(ids: list[str], worker: str) -> list[Claim]:
    with statements() as db:
        enter(db, ids, node.current().agent_id)
        return claim(db, ids, worker)
