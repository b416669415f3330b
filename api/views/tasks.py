"""Tasks: submit, list, show and wait."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from sqlalchemy.orm import Session

from api.endpoints import PREFIX, Reply, Section
from api.news import POLL_S, news
from api.payloads.tasks import (
    TaskBatchIn,
    TaskBatchOut,
    TaskIn,
    TaskListQuery,
    TaskOut,
    TaskPage,
    TaskQuery,
)
from app.db import reading
from app.errors import Invalid, NotFound, Problem
from app.gather import Gather
from app.keys import Caller
from app.tasks import find
from app.tasks.check import NewTask
from app.tasks.submit import submit, submit_each
from schema.tasks import TERMINAL, TaskStatus

section = Section("Tasks")


#: Single submissions that come at the same time share a transaction.
_submissions: Gather[tuple[Caller, NewTask], Any] = Gather(submit_each)


@section.route("POST", "/tasks", scope="submit", answers={202: TaskOut}, creates=True)
def submit_task(caller: Caller, body: TaskIn, db: Session | None = None) -> Reply:
    """Submit a task.

    It is stored when this answers, and will be done even if every other part of the system restarts meanwhile.
    """
    call = (caller, body.to_new_task())
    try:
        task = _submissions(call) if db is None else _only(submit_each(db, [call]))
    except (Invalid, NotFound) as exc:
        # There is one task, so its index says nothing.
        raise type(exc)(exc.detail, problems=[Problem(p.loc[1:], p.msg) for p in exc.problems]) from None
    return Reply(TaskOut.model_validate(task._asdict()), 202, location=f"{PREFIX}/tasks/{task.id}")


@section.route("POST", "/tasks/batch", scope="submit", answers={202: TaskBatchOut}, creates=True)
def submit_batch(db: Session, caller: Caller, body: TaskBatchIn) -> Reply:
    """Submit up to 1000 tasks, all or none."""
    try:
        ids = submit(db, caller.owner, [task.to_new_task() for task in body.tasks])
    except (Invalid, NotFound) as exc:
        raise type(exc)(exc.detail, problems=[Problem(("tasks", *p.loc), p.msg) for p in exc.problems]) from None
    # One validation for all: a thousand small models cost as much as the insert.
    accepted = {"items": [{"id": task_id, "status": TaskStatus.PENDING} for task_id in ids]}
    return Reply(TaskBatchOut.model_validate(accepted), 202)


@section.route("GET", "/tasks", scope="read", answers={200: TaskPage})
def list_tasks(db: Session, caller: Caller, query: TaskListQuery) -> Reply:
    """List tasks, the newest first."""
    wanted = find.Filter(
        owner=caller.sees,
        status=query.status,
        task_type=query.task_type,
        queue=query.queue,
        label=query.label_pair,
        q=query.q,
        workflow_id=query.workflow_id,
        session_id=query.session_id,
    )
    tasks, next_cursor = find.find(db, wanted, query.cursor, query.limit)
    return Reply(TaskPage(items=[TaskOut.model_validate(t) for t in tasks], next_cursor=next_cursor))


@section.route("GET", "/tasks/<task_id>", scope="read", answers={200: TaskOut})
def show_task(task_id: str, caller: Caller, query: TaskQuery) -> Reply:
    """Show a task; with `wait`, once it has ended or that time is up."""
    task = _read(task_id, caller)
    if query.wait == 0 or task.status in TERMINAL:
        return Reply(TaskOut.model_validate(task))
    with news().watch(task_id, caller.owner) as bell:
        if bell is None:
            return Reply(TaskOut.model_validate(task), headers={"Retry-After": "1"})
        give_up = time.monotonic() + query.wait
        while True:
            # Cleared before the look: what happens after the look rings again.
            bell.clear()
            left = give_up - time.monotonic()
            if left <= 0 or _has_ended(task_id):
                break
            bell.wait(min(left, POLL_S))
    return Reply(TaskOut.model_validate(_read(task_id, caller)))


def _only(answers: Sequence[Any]) -> Any:
    (answer,) = answers
    if isinstance(answer, Exception):
        raise answer
    return answer


def _read(task_id: str, caller: Caller) -> Any:
    with reading() as db:
        return find.see(db, task_id, caller.sees)


def _has_ended(task_id: str) -> bool:
    with reading() as db:
        return find.has_ended(db, task_id)
