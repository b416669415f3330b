"""Publishing envelopes: ids only, bounded in time, and never a reason for a request to fail.

A publish that times out may still have been enqueued; either way the row stands in Postgres and the clock sends
again whatever nobody claimed. So errors are logged and counted here, not raised.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Sequence
from functools import cache, partial
from typing import Any

import redis
from kombu.connection import Connection
from kombu.exceptions import OperationalError

from app import metrics
from app.breaker import CircuitBreaker
from app.celery import celery_app
from app.db import Db, after_commit, noted
from app.queues import ADMIT, ADVANCE, DELIVER, INDEX, RUN, Queue
from app.settings import settings

log = logging.getLogger(__name__)

#: A healthy local Redis answers in under a millisecond; a client waits for at most two of these.
_SOCKET_TIMEOUT_S = 0.25
#: The gateway job deletes the key as its first act, so it only outlives a lost envelope.
_BELL_EXPIRY_S = 2
_TOLD = "clawq.told"
_ADVANCED = "clawq.advanced"
#: Workflows in one envelope, which one slot looks at in turn.
_WORKFLOWS = 20
#: What the gateway's second bell is for.
MESSAGES = "messages"
#: Redis channel that carries JSON lists of the ids of tasks, workflows and agents with news.
NEWS = "clawq:news"


_breaker = CircuitBreaker()


def ring() -> None:
    """Ask the gateway to admit what is pending. Many rings make one envelope."""
    attempt("ring", partial(_ring, ADMIT, Queue.GATEWAY))


def ring_indexer() -> None:
    """Ask a memory worker to bring the index up to date. Many rings make one envelope."""
    attempt("ring", partial(_ring, INDEX, Queue.MEMORY))


def ring_deliverer() -> None:
    """Ask the gateway to deliver messages. Many rings make one envelope."""
    attempt("ring", partial(_ring, DELIVER, Queue.GATEWAY, MESSAGES))


def send(envelopes: Iterable[tuple[Queue, Sequence[str]]]) -> None:
    """Send one `tasks.run` envelope to each queue given, with the ids of the tasks to claim."""
    for queue, ids in envelopes:
        if not attempt("send", partial(_publish, RUN, [list(ids)], queue)):
            return


def tell(ids: Iterable[str]) -> None:
    """Tell whoever watches that these tasks, workflows or agents have news. Content always comes from Postgres."""
    attempt("tell", lambda: client().publish(NEWS, json.dumps(list(ids))))


def tell_after(db: Db, ids: Iterable[str]) -> None:
    """`tell`, once `db` has committed: one notice for everything that its transaction changed."""
    earlier = noted(db, _TOLD)
    told = [*(earlier.args[0] if isinstance(earlier, partial) else ()), *ids]
    after_commit(db, _TOLD, partial(tell, told))


def advance(workflow_ids: Iterable[str]) -> None:
    """Ask the coordinator to look at these workflows. Many rings for one make one envelope."""
    attempt("advance", partial(_advance, sorted(workflow_ids)))


def advance_after(db: Db, workflow_ids: Iterable[str]) -> None:
    """`advance`, once `db` has committed: one ring for everything that its transaction changed."""
    earlier = noted(db, _ADVANCED)
    asked = {*(earlier.args[0] if isinstance(earlier, partial) else ()), *workflow_ids}
    if asked:
        after_commit(db, _ADVANCED, partial(advance, asked))


def answers() -> bool:
    """Whether Redis answers in time."""
    return attempt("ping", client().ping)


def answer(queue: Queue, what: str | None = None) -> None:
    """A worker has heard the bell of its queue, or that for a workflow or for messages: the next ring sends again."""
    attempt("answer", lambda: client().delete(_bell(queue, what)))


@cache
def client() -> redis.Redis:
    """A Redis client with short time-outs and no retries, for everything but consuming."""
    return redis.Redis.from_url(
        settings().require_redis_url(),
        socket_timeout=_SOCKET_TIMEOUT_S,
        socket_connect_timeout=_SOCKET_TIMEOUT_S,
        retry=None,
    )


def attempt(what: str, action: Callable[[], Any]) -> bool:
    """Whether Redis did `action`, which is not tried while the circuit is open. A failure is logged and counted."""
    if not _breaker.allows():
        metrics.PUBLISH_FAILURES.inc()
        return False
    try:
        action()
    except (redis.RedisError, OperationalError, OSError) as exc:
        _breaker.failed()
        metrics.PUBLISH_FAILURES.inc()
        log.warning("Redis did not take it (%s): %s", what, exc)
        return False
    _breaker.succeeded()
    return True


def _bell(queue: Queue, what: str | None = None) -> str:
    return f"clawq:bell:{queue}:{what}" if what else f"clawq:bell:{queue}"


def _ring(job: str, queue: Queue, what: str | None = None) -> None:
    bell = _bell(queue, what)
    if not client().set(bell, "1", nx=True, ex=_BELL_EXPIRY_S):
        return
    try:
        _publish(job, [], queue)
    except BaseException:
        client().delete(bell)
        raise


def _advance(workflow_ids: Sequence[str]) -> None:
    with client().pipeline(transaction=False) as pipe:
        for workflow_id in workflow_ids:
            pipe.set(_bell(Queue.COORDINATOR, workflow_id), "1", nx=True, ex=_BELL_EXPIRY_S)
        rung = [workflow_id for workflow_id, first in zip(workflow_ids, pipe.execute(), strict=True) if first]
    for start in range(0, len(rung), _WORKFLOWS):
        few = rung[start : start + _WORKFLOWS]
        try:
            _publish(ADVANCE, [few], Queue.COORDINATOR)
        except BaseException:
            client().delete(*(_bell(Queue.COORDINATOR, workflow_id) for workflow_id in rung[start:]))
            raise


def _publish(job: str, args: list[object], queue: Queue) -> None:
    with _connections().acquire(block=True, timeout=_SOCKET_TIMEOUT_S) as connection:
        celery_app.send_task(job, args, queue=queue, connection=connection, retry=False, ignore_result=True)


@cache
def _connections() -> Any:
    options = celery_app.conf.broker_transport_options | {
        "socket_timeout": _SOCKET_TIMEOUT_S,
        "socket_connect_timeout": _SOCKET_TIMEOUT_S,
        "max_retries": 0,
    }
    return Connection(settings().require_redis_url(), transport_options=options).Pool(limit=32)
