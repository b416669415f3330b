"""The Celery application. `celery -A app worker -Q execution` finds it here.

Celery carries ids and wakes workers; it holds no state. Its settings are chosen so that it neither hoards, kills
nor retries: recovery is Postgres' business (docs/architecture.md).
"""

from __future__ import annotations

import os
from pathlib import Path

from celery import Celery, signals
from kombu.entity import Queue as KombuQueue

from app import logs, transport
from app.queues import ADMIT, ADVANCE, DELIVER, INDEX, Queue
from app.settings import settings

transport.install()
celery_app = Celery(
    "clawq",
    include=[
        "workers.gateway",
        "workers.messages",
        "workers.coordinator",
        "workers.run",
        "workers.step",
        "workers.indexing",
        "workers.lifecycle",
    ],
)
# `celery -A app flower` is not open to all, whoever types it and wherever.
os.environ.setdefault("FLOWER_CONF", str(Path(__file__).with_name("flower.py")))


#: Seconds that the count of a chord is kept: longer than most headers take. After that the coordinator brings the body.
_CHORD_S = 3600
#: A slot that passes on a chain or chord does not wait long for a Redis that is away: the coordinator brings the rest.
_ONCE_MORE = {"max_retries": 1, "interval_start": 0.1, "interval_step": 0, "interval_max": 0.1}


def configure() -> None:
    """Settings that need the environment; applied when Celery first asks for its configuration."""
    celery_app.conf.update(
        task_queues=[KombuQueue(queue, routing_key=queue) for queue in Queue],
        task_default_queue=Queue.EXECUTION,
        task_routes={
            ADMIT: {"queue": Queue.GATEWAY},
            DELIVER: {"queue": Queue.GATEWAY},
            ADVANCE: {"queue": Queue.COORDINATOR},
            INDEX: {"queue": Queue.MEMORY},
        },
        # A queue that nobody declared is a typo, not a new queue.
        task_create_missing_queues=False,
        # Ids in JSON and nothing else: a pickle in Redis would be code execution.
        accept_content=["json"],
        task_serializer="json",
        # Results live in Postgres; the backend counts the headers of chords, in keys that go with the chord.
        task_ignore_result=True,
        result_chord_expires=_CHORD_S,
        result_backend_transport_options={"retry_policy": _ONCE_MORE},
        task_publish_retry_policy=_ONCE_MORE,
        redis_socket_timeout=5,
        redis_socket_connect_timeout=2,
        # Late ack with one prefetched job: against hoarding. A lost or repeated envelope is harmless anyway.
        task_acks_late=True,
        worker_prefetch_multiplier=1,
        # The lease takes back what a dead worker held, with a count; a requeue by Celery would have none.
        task_reject_on_worker_lost=False,
        # True would end running work, and ack it away, whenever Redis restarts.
        worker_cancel_long_running_tasks_on_connection_loss=False,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_transport_options={
            # Longer than any task's wall-time ceiling: a redelivery is only a failed claim, but a useless one.
            "visibility_timeout": 6 * 3600,
            "socket_timeout": 5,
            "socket_connect_timeout": 2,
            "socket_keepalive": True,
            "health_check_interval": 10,
        },
        worker_pool="app.pool:ThreadPool",
        worker_consumer="workers.scaling:Consumer",
        worker_autoscaler="workers.scaling:Autoscaler",
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        # Nobody watches most of the time, and events cost a worker a quarter of its time. `celery control
        # enable_events` turns them on; Flower shows workers and queues without any.
        worker_send_task_events=False,
        # `celery control` replies are queues of their own; they should not outlive the asker by a day.
        control_queue_expires=60,
        beat_scheduler="workers.clock:Clock",
    )
    # Last: Celery only logs what this raises, and would go on with its own defaults for all of the above.
    url = settings().require_redis_url()
    celery_app.conf.result_backend = f"app.backend:QuietBackend+{url}"
    celery_app.conf.broker_url = url


celery_app.on_configure.connect(lambda **_: configure(), weak=False)
# With a receiver here, Celery leaves logging to us.
signals.setup_logging.connect(lambda **_: logs.configure(), weak=False)
