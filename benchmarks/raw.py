"""Plain Celery doing nothing: what clawq's throughput is measured against.

`BENCH_BROKER` names the broker. Every setting is Celery's default but for results, which nobody asks for.
"""

from __future__ import annotations

import os

from celery import Celery

celery_app = Celery("raw", broker=os.environ.get("BENCH_BROKER"))
celery_app.conf.update(task_ignore_result=True, broker_connection_retry_on_startup=True)


@celery_app.task
def noop(payload: dict[str, int]) -> dict[str, int]:
    """The counterpart of `echo`."""
    return payload
