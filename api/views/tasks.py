"""Tasks: submit, list, show and wait."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

from sqlalchemy.orm import Session

from api.endpoints import PREFIX, Reply, Section
from api.news import wait_for_end
from api.payloads.common import WaitQuery
from api.payloads.tasks import TaskBatchIn, TaskBatchOut, TaskIn, TaskListQuery, TaskOut, TaskPage
from app.db import single, statements
from app.errors import Invalid, NotFound, Problem
from app.gather import Gather
from app.keys import Caller
from app.tasks import find
from app.tasks.check import NewTask
from app.tasks.submit import submit, submit_each
from schema.tasks import TERMINAL, TaskStatus

section = Section("Tasks")


#: Single submissions that come at the same time are written by one statement.
_submissions: Gather[tuple[Caller, NewTask], Any] = Gather(submit_each, single)


@section.route("POST", "/tasks", scope="submit", answers={202: TaskOut}, creates=True, refers=True)
def submit_task(caller: Caller, body: TaskIn, db: Session | None = None) -> Reply:
    """Submit a task.

    It is stored when this answers, and will be done even if every other part of the system restarts meanwhile.
    """
    try:
        task = _submit((caller, body.to_new_task()), db)
    except (Invalid, NotFound) as exc:
        # There is one task, so its index says nothing.
        raise type(exc)(exc.detail, problems=[Problem(p.loc[1:], p.msg) for p in exc.problems]) from None
    return Reply(TaskOut.model_validate(task._asdict()), 202, location=f"{PREFIX}/tasks/{task.id}")


@section.route("POST", "/tasks/batch", scope="submit", answers={202: TaskBatchOut}, creates=True, refers=True)
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
def show_task(task_id: str, caller: Caller, query: WaitQuery) -> Reply:
    """Show a task; with `wait`, once it has ended or that time is up."""
    task = _read(task_id, caller)
    if query.wait == 0 or task.status in TERMINAL:
        return Reply(TaskOut.model_validate(task))
    if not wait_for_end(task_id, caller.owner, query.wait, lambda: _has_ended(task_id)):
        return Reply(TaskOut.model_validate(task), headers={"Retry-After": "1"})
    return Reply(TaskOut.model_validate(_read(task_id, caller)))


def _submit(call: tuple[Caller, NewTask], db: Session | None) -> Any:
    """Submit a task, alone or with others; returns its row."""
    _, task = call
    if db is None and not task.dependencies:
        return _submissions(call)
    # Parents are held while the task is written, and that takes a transaction.
    with nullcontext(db) if db else statements() as ours:
        (answer,) = submit_each(ours, [call])
    if isinstance(answer, Exception):
        raise answer
    return answer


def _read(task_id: str, caller: Caller) -> Any:
    with single() as db:
        return find.see(db, task_id, caller.sees)


def _has_ended(task_id: str) -> bool:
    with single() as db:
        return find.has_ended(db, task_id)
