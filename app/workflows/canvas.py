"""Canvas: the chains and chords of Celery that a plan becomes. They carry ids only.

A canvas may get lost, stop half-way or come twice: its tasks are in Postgres, and the coordinator brings what it does
not (advance.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

from celery import chain, chord

from app import metrics, publisher
from app.celery import celery_app
from app.queues import ADVANCE, RUN, STEP, Queue
from app.tasks.dispatch import Queued, envelopes
from app.workflows.carry import Carried

#: A chain or chord, ready to be sent.
Canvas = Any


def canvases(carried: Carried, starting: Sequence[Queued]) -> list[Canvas]:
    """What a plan becomes. `starting` are the tasks that were planned for."""
    tasks = {task.id: task for task in starting}
    made = carried.plan
    return [_chain(each.ids, carried, tasks[each.ids[0]]) for each in made.chains] + [
        _chord(each.header, each.body, carried, tasks) for each in made.chords
    ]


def send(made: Iterable[Canvas]) -> None:
    """Send canvases, until Redis does not answer."""
    for each in made:
        if not publisher.attempt("canvas", partial(_send, each)):
            return


def _chain(ids: Sequence[str], carried: Carried, first: Queued) -> Canvas:
    steps = [_job(RUN, ids[:1], carried.queues[ids[0]])]
    steps += [_job(STEP, [task_id], carried.queues[task_id]) for task_id in ids[1:]]
    return chain(*steps, app=celery_app).on_error(_errback(first))


def _chord(header: Sequence[Sequence[str]], body: str, carried: Carried, tasks: dict[str, Queued]) -> Canvas:
    alone = [tasks[run[0]] for run in header if len(run) == 1]
    # At least two envelopes, so that two slots share the work.
    chunks = envelopes(alone, most=-(-len(alone) // 2) or 1)
    first = tasks[header[0][0]]
    members = [_job(RUN, ids, queue) for queue, ids in chunks]
    members += [_chain(run, carried, tasks[run[0]]) for run in header if len(run) > 1]
    return chord(members, _job(STEP, [body], carried.queues[body]).on_error(_errback(first)), app=celery_app)


def _job(name: str, ids: Sequence[str], queue: str) -> Any:
    return celery_app.signature(name, args=[list(ids)], immutable=True, queue=queue)


def _errback(task: Queued) -> Any:
    return _job(ADVANCE, [task.workflow_id or ""], Queue.COORDINATOR)


def _send(made: Canvas) -> None:
    made.apply_async(retry=False)
    metrics.CANVASES_SENT.labels(kind="chord" if isinstance(made, chord) else "chain").inc()
