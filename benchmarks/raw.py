"""Plain Celery doing nothing: what clawq's throughput, chains and chords are measured against.

`BENCH_BROKER` names the broker, `BENCH_BACKEND` where chords are counted. Every setting is Celery's default but for
results, which nobody asks for.
"""

from __future__ import annotations

import os
import time
from functools import cache

import redis
from celery import Celery, chain, group

celery_app = Celery("raw", broker=os.environ.get("BENCH_BROKER"), backend=os.environ.get("BENCH_BACKEND"))
celery_app.conf.update(task_ignore_result=True, broker_connection_retry_on_startup=True)


@celery_app.task
def noop(payload: dict[str, int]) -> dict[str, int]:
    """The counterpart of `echo`."""
    return payload


@celery_app.task
def stamp(name: str) -> None:
    """A no-op that says when it was done."""
    _client().rpush(name, time.time())


def chain_ms(tasks: int) -> float:
    """Milliseconds from sending a chain of no-ops until the last of them is done."""
    began = time.time()
    chain(*(noop.si({"n": n}) for n in range(tasks - 1)), stamp.si("ended")).apply_async()
    return (_stamped("ended") - began) * 1000


def chord_ms(tasks: int) -> float:
    """Milliseconds from the end of a task to that of another, with so many no-ops side by side between the two."""
    header = group(noop.si({"n": n}) for n in range(tasks))
    chain(stamp.si("began"), header, stamp.si("ended")).apply_async()
    began = _stamped("began")
    return (_stamped("ended") - began) * 1000


def _stamped(name: str) -> float:
    give_up = time.monotonic() + 60
    while (found := _client().blpop([name], timeout=1)) is None:
        if time.monotonic() > give_up:
            raise TimeoutError(f"{name} was not stamped within a minute")
    return float(found[1])


@cache
def _client() -> redis.Redis:
    return redis.Redis.from_url(os.environ["BENCH_BROKER"])
