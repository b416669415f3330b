"""A fleet in this process: takes envelopes from Redis and does what workers would, by Celery's own tracer.

So chains and chords go on as they do in a worker, and a test decides when, and what gets lost between two of them.
"""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from celery.app import trace

from app import publisher
from app.celery import celery_app
from app.db import transaction
from app.queues import Queue
from app.tasks.recover import redispatch, start_due
from app.workflows.asked import NewStep, NewWorkflow
from app.workflows.submit import submit
from app.workflows.sweep import sweep
from tests.support import OWNER, sql


@dataclass(frozen=True)
class Envelope:
    """A message as it lies in Redis."""

    raw: bytes

    @property
    def headers(self) -> dict[str, Any]:
        return dict(json.loads(self.raw)["headers"])

    @property
    def job(self) -> str:
        return str(self.headers["task"])

    @property
    def body(self) -> list[Any]:
        """Arguments, named arguments, and what Celery embeds: `chain`, `chord` and the like."""
        return list(json.loads(base64.b64decode(json.loads(self.raw)["body"])))

    @property
    def ids(self) -> list[str]:
        return list(self.body[0][0]) if self.body[0] else []

    @property
    def chain(self) -> list[Any]:
        return list(self.body[2].get("chain") or ())

    @property
    def chord(self) -> Any:
        return self.body[2].get("chord")

    def open(self) -> None:
        """Do what it asks for, as a worker does."""
        message = json.loads(self.raw)
        headers = {**message["headers"], "delivery_info": message["properties"].get("delivery_info", {})}
        args, kwargs, embed = self.body
        request = {**headers, "args": args, "kwargs": kwargs, "hostname": "test", "is_eager": False, **(embed or {})}
        task = celery_app.tasks[self.job]
        if task.__trace__ is None:
            task.__trace__ = trace.build_tracer(task.name, task, app=celery_app)
        task.__trace__(headers["id"], args, kwargs, request)


def waiting(*queues: str) -> list[Envelope]:
    """What waits in these queues, or in all, oldest first; it stays there."""
    return [Envelope(raw) for queue in queues or tuple(Queue) for raw in reversed(_list(queue))]


def draw(*queues: str) -> list[Envelope]:
    """Take what waits in these queues, or in all."""
    drawn = []
    for queue in queues or tuple(Queue):
        while raw := publisher.client().rpop(queue):
            drawn.append(Envelope(bytes(raw)))  # type: ignore[arg-type]
    return drawn


def work(keep: Callable[[Envelope], bool] = lambda _: True, rounds: int = 100_000, slots: int = 1) -> list[Envelope]:
    """Open envelopes until none is left; those that `keep` refuses are lost. Returns all that were opened."""
    opened: list[Envelope] = []
    for _ in range(rounds):
        drawn = [envelope for envelope in draw() if keep(envelope)]
        if not drawn:
            return opened
        opened += drawn
        _share(drawn, slots)
    raise AssertionError("it does not come to an end")


def _share(drawn: Sequence[Envelope], slots: int) -> None:
    if slots == 1:
        for envelope in drawn:
            envelope.open()
        return
    left = list(reversed(drawn))

    def slot() -> None:
        while left:
            try:
                envelope = left.pop()
            except IndexError:
                return
            envelope.open()

    threads = [threading.Thread(target=slot) for _ in range(slots)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _list(queue: str) -> list[bytes]:
    return list(publisher.client().lrange(queue, 0, -1))  # type: ignore[arg-type]


def a_step(key: str, *depends_on: str, **values: Any) -> NewStep:
    """An echo task of a workflow, or whatever `values` make of it."""
    return NewStep(**{"key": key, "task_type": "echo", "payload": {"key": key}, "depends_on": depends_on, **values})


def post_flow(*steps: NewStep, owner: str = OWNER, **values: Any) -> str:
    """Submit a workflow; returns its id."""
    with transaction() as db:
        return submit(db, owner, NewWorkflow(**{"name": "flow", "tasks": steps, **values}))


def flow(workflow_id: str) -> Any:
    """A workflow as it stands in the table."""
    (found,) = sql("SELECT * FROM workflows WHERE id = :id", id=workflow_id)
    return found


def tasks_of(workflow_id: str) -> dict[str, Any]:
    """Its tasks as they stand, by key."""
    return {row.key: row for row in sql("SELECT * FROM tasks WHERE workflow_id = :id ORDER BY id", id=workflow_id)}


def states(workflow_id: str) -> dict[str, str]:
    """The state of each of its tasks, by key."""
    return {key: row.status for key, row in tasks_of(workflow_id).items()}


def order_of(workflow_id: str, keys: Iterable[str] = ()) -> list[str]:
    """The keys of its tasks as they ended."""
    wanted = set(keys)
    ended = sorted(tasks_of(workflow_id).values(), key=lambda row: row.completed_at)
    return [row.key for row in ended if not wanted or row.key in wanted]


def retry_now(workflow_id: str) -> None:
    """The clock looks, long enough after whatever was to come of itself."""
    sql(
        "UPDATE tasks SET next_dispatch_at = now(), available_at = least(available_at, now()) WHERE workflow_id = :id",
        id=workflow_id,
    )
    publisher.client().delete(*publisher.client().keys("clawq:bell:*") or ["none"])  # type: ignore[misc]
    publisher._breaker.succeeded()
    with transaction() as db:
        sweep(db)
        redispatch(db)
        start_due(db)
