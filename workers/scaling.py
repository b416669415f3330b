"""What Celery's consumer and autoscaler need to know of a pool that grows and shrinks."""

from __future__ import annotations

from celery.worker.autoscale import Autoscaler as CeleryAutoscaler
from celery.worker.consumer import Consumer as CeleryConsumer


class Consumer(CeleryConsumer):
    """Prefetches, after it has lost its connection, as much as before."""

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
