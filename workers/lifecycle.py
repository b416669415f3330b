"""From Celery's signals to the node: start, pulse, drain, leave."""

from __future__ import annotations

import logging
import signal
import sys
import threading
from typing import Any

from celery import bootsteps, signals
from sqlalchemy.exc import SQLAlchemyError

from app.celery import celery_app
from app.errors import ClawqError
from app.settings import settings
from workers import node

log = logging.getLogger(__name__)

#: Seconds to take this worker off the list.
_LEAVE_S = 1.0


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
        node.current().pulse.connected = True
        _beat(consumer)
        self._timer = consumer.timer.call_repeatedly(1.0, _beat, (consumer,))

    def stop(self, consumer: Any) -> None:
        """The consumer has lost its connection, or shuts down."""
        this = node.current()
        this.pulse.connected = False
        this.heart.hurry()
        self._timer.cancel()


def _beat(consumer: Any) -> None:
    this = node.current()
    this.beat(subscribed=this.role in consumer.app.amqp.queues.consume_from)


class DrainStep(bootsteps.StartStopStep):
    """Drains at every way to end, `celery control shutdown` included; a signal's drain has begun by then."""

    def close(self, worker: Any) -> None:
        """The worker stops taking tasks."""
        node.current().heart.drain()


celery_app.steps["consumer"].add(PulseStep)
celery_app.steps["worker"].add(DrainStep)


@signals.worker_ready.connect
def _ready(**_: Any) -> None:
    # Celery would tear jobs from their threads, which cannot be done, and lose its way.
    signal.signal(signal.SIGQUIT, _hand_back)


@signals.worker_shutting_down.connect
def _drain(**_: Any) -> None:
    node.current().heart.drain()
    # A second Ctrl-C is Celery's SIGQUIT.
    signal.signal(signal.SIGINT, _hand_back)


def _hand_back(*_: Any) -> None:
    """SIGQUIT, or a second Ctrl-C: end as for SIGTERM, but without time for running tasks."""
    node.current().heart.drain(at_once=True)
    signal.raise_signal(signal.SIGTERM)


@signals.worker_shutdown.connect
def _leave(**_: Any) -> None:
    # Postgres may be stopped, and take longer to give up than we have to end.
    leaving = threading.Thread(target=_sign_off, name="leaving", daemon=True)
    leaving.start()
    leaving.join(_LEAVE_S)
    node.current().close()


def _sign_off() -> None:
    try:
        node.current().leave()
    except SQLAlchemyError as exc:
        # The clock drops workers without a heartbeat.
        log.warning("could not sign off: %s", exc)
