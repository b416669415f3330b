"""Dispatch: which envelopes carry which ids. One envelope is one worker slot."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from app.queues import Queue
from app.tasks.types import INLINE_BATCH, TASK_TYPES

log = logging.getLogger(__name__)

#: Bytes of their payloads as text: a worker loads an envelope's payloads together.
INLINE_BYTES = 2**20


@dataclass(frozen=True)
class Queued:
    """A task that waits for a worker."""

    id: str
    queue: str
    task_type: str
    #: Of its payload as text; what is stored may be a hundred times smaller.
    payload_bytes: int
    workflow_id: str | None = None


def envelopes(tasks: Iterable[Queued], most: int = INLINE_BATCH) -> Iterator[tuple[Queue, list[str]]]:
    """Group tasks into (queue, ids), at most `most` together: echo shares an envelope, a sandboxed task has its own.

    A task whose queue or type only a newer version knows is passed over: it waits for that version's clock.
    """
    open_: dict[Queue, tuple[list[str], int]] = {}
    for task in tasks:
        if task.queue not in set(Queue) or task.task_type not in TASK_TYPES:
            log.warning("nothing here runs %s on queue %s", task.task_type, task.queue, extra={"task_id": task.id})
            continue
        queue = Queue(task.queue)
        share = min(TASK_TYPES[task.task_type].share, most)
        if share == 1:
            yield queue, [task.id]
            continue
        ids, size = open_.pop(queue, ([], 0))
        if len(ids) >= share or (ids and size + task.payload_bytes > INLINE_BYTES):
            yield queue, ids
            ids, size = [], 0
        ids.append(task.id)
        open_[queue] = (ids, size + task.payload_bytes)
    for queue, (ids, _) in open_.items():
        yield queue, ids
