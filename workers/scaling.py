"""What Celery's consumer and autoscaler need to know of our pool and roles, for `celery control` to do what it says."""

from __future__ import annotations

import logging
from typing import Any

from celery.worker.autoscale import Autoscaler as CeleryAutoscaler
from celery.worker.consumer import Consumer as CeleryConsumer

from workers import node

log = logging.getLogger(__name__)


class Consumer(CeleryConsumer):
    """Prefetches, after it has lost its connection, as much as before, and consumes no queue but its role's."""

    def add_task_queue(self, queue: str, *args: Any, **kwargs: Any) -> None:
        """Celery asks every worker that was not singled out with `-d`."""
        if queue == node.current().role:
            super().add_task_queue(queue, *args, **kwargs)
        else:
            log.info("not the queue of this worker's role: %s", queue)

    @property
    def max_prefetch_count(self) -> int:
        """Celery counts the slots that there are; with these alone full, the autoscaler would never see more to do."""
        scaler = self.controller.autoscaler
        slots: int = scaler.max_concurrency if scaler else self.pool.num_processes
        return slots * int(self.prefetch_multiplier)


class Autoscaler(CeleryAutoscaler):
    """Shrinks down to one slot where the least is none, as with `--autoscale=8`."""

    def _shrink(self, n: int) -> None:
        if (most := min(n, self.processes - 1)) > 0:
            super()._shrink(most)
