"""From Celery's signals to the node: start, pulse, drain, leave."""

from __future__ import annotations

import logging
import sys
from typing import Any

from celery import bootsteps, signals
from sqlalchemy.exc import SQLAlchemyError

from app.celery import celery_app
from app.errors import ClawqError
from app.settings import settings
from workers import node

log = logging.getLogger(__name__)


@signals.worker_init.connect
def _start(sender: Any, **_: Any) -> None:
    queues = list(sender.app.amqp.queues.consume_from)
    try:
        settings().require_redis_url()
        node.become(sender.hostname, queues, lambda: _slots(sender)).start()
    except (ClawqError, SQLAlchemyError) as exc:
        # Celery logs what a signal's receiver raises and carries on; a worker without its node is of no use.
        sys.exit(f"The worker cannot start: {exc}")


def _slots(worker: Any) -> int:
    # The pool is made after this node, and knows better once it is.
    return int(worker.pool.limit if worker.pool else worker.concurrency)


class PulseStep(bootsteps.StartStopStep):
    """Lets the consumer loop's own timer show that it turns; stopped while the broker is away."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def start(self, consumer: Any) -> None:
        """The consumer has connected."""
        pulse = node.current().pulse
        pulse.connected = True
        pulse.beat()
        self._timer = consumer.timer.call_repeatedly(1.0, pulse.beat)

    def stop(self, consumer: Any) -> None:
        """The consumer has lost its connection, or shuts down."""
        node.current().pulse.connected = False
        self._timer.cancel()


celery_app.steps["consumer"].add(PulseStep)


@signals.worker_shutting_down.connect
def _drain(**_: Any) -> None:
    node.current().heart.drain()


@signals.worker_shutdown.connect
def _leave(**_: Any) -> None:
    try:
        node.current().leave()
    except SQLAlchemyError as exc:
        # The clock drops workers without a heartbeat.
        log.warning("could not sign off: %s", exc)
