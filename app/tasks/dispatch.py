"""Dispatch: which envelopes carry which ids. One envelope is one worker slot."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from app.publisher import INLINE_BATCH
from app.queues import Queue
from app.tasks.types import TASK_TYPES


@dataclass(frozen=True)
class Queued:
    """A task that waits for a worker."""

    id: str
    queue: str
    task_type: str


def envelopes(tasks: Iterable[Queued]) -> Iterator[tuple[Queue, list[str]]]:
    """Group tasks into (queue, ids): inline types share an envelope, a sandboxed task has its own."""
    shared: dict[Queue, list[str]] = {}
    for task in tasks:
        queue = Queue(task.queue)
        if TASK_TYPES[task.task_type].inline:
            shared.setdefault(queue, []).append(task.id)
        else:
            yield queue, [task.id]
    for queue, ids in shared.items():
        for start in range(0, len(ids), INLINE_BATCH):
            yield queue, ids[start : start + INLINE_BATCH]
