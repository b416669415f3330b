"""One task: cancel, retry, and what is known of it."""

from __future__ import annotations

from sqlalchemy.orm import Session

from api.endpoints import PREFIX, Reply, Section
from api.payloads.tasks import (
    AfterQuery,
    AttemptOut,
    AttemptPage,
    EventOut,
    EventPage,
    ExplainOut,
    LogOut,
    LogPage,
    ReasonOut,
    RetryIn,
    TaskOut,
)
from app.keys import Caller
from app.tasks import find
from app.tasks.cancel import cancel
from app.tasks.explain import explain
from app.tasks.retry import retry
from app.tasks.types import check_payload
from schema.tasks import EventKind, TaskStatus

section = Section("Tasks")


@section.route(
    "POST",
    "/tasks/<task_id>/cancel",
    scope="submit",
    answers={200: TaskOut, 202: TaskOut},
    conflicts="It has already ended otherwise.",
)
def cancel_task(db: Session, caller: Caller, task_id: str) -> Reply:
    """Cancel a task.

    200: it is cancelled. 202: it is running, its worker was asked to stop it, and it is `cancelled` once its program
    is dead. Asking twice is harmless.
    """
    task = find.get(db, task_id, caller.sees)
    status = cancel(db, task_id)
    db.refresh(task)
    return Reply(TaskOut.model_validate(task), 202 if status == TaskStatus.RUNNING else 200)


@section.route(
    "POST",
    "/tasks/<task_id>/retry",
    scope="submit",
    answers={202: TaskOut},
    conflicts="It is neither failed nor cancelled, or a parent of it did not succeed.",
)
def retry_task(db: Session, caller: Caller, task_id: str, body: RetryIn) -> Reply:
    """Retry a failed or cancelled task in a new round, with another payload if one is given."""
    task = find.get(db, task_id, caller.sees)
    if body.payload is not None:
        check_payload(task.task_type, body.payload)
    retry(db, task_id, body.payload)
    db.refresh(task)
    return Reply(TaskOut.model_validate(task), 202, location=f"{PREFIX}/tasks/{task_id}")


@section.route("GET", "/tasks/<task_id>/events", scope="read", answers={200: EventPage})
def list_events(db: Session, caller: Caller, task_id: str, query: AfterQuery) -> Reply:
    """List what happened to a task, in order."""
    find.get(db, task_id, caller.sees)
    events, next_cursor = find.events(db, task_id, query.after, query.limit)
    return Reply(EventPage(items=[EventOut.model_validate(e) for e in events], next_cursor=next_cursor))


@section.route("GET", "/tasks/<task_id>/logs", scope="read", answers={200: LogPage})
def list_logs(db: Session, caller: Caller, task_id: str, query: AfterQuery) -> Reply:
    """List what a task's programs wrote, in order and over all tries."""
    find.get(db, task_id, caller.sees)
    events, next_cursor = find.events(db, task_id, query.after, query.limit, kinds=(EventKind.LOG,))
    items = [
        LogOut(seq=e.seq, at=e.at, attempt=e.attempt, stream=e.data.get("stream", ""), text=e.data.get("text", ""))
        for e in events
    ]
    return Reply(LogPage(items=items, next_cursor=next_cursor))


@section.route("GET", "/tasks/<task_id>/attempts", scope="read", answers={200: AttemptPage})
def list_attempts(db: Session, caller: Caller, task_id: str) -> Reply:
    """List the tries at a task, in order."""
    find.get(db, task_id, caller.sees)
    return Reply(AttemptPage(items=[AttemptOut.model_validate(a) for a in find.attempts(db, task_id)]))


@section.route("GET", "/tasks/<task_id>/explain", scope="read", answers={200: ExplainOut})
def explain_task(db: Session, caller: Caller, task_id: str) -> Reply:
    """Explain what a task waits for."""
    task = find.get(db, task_id, caller.sees)
    known = {name: getattr(task, name) for name in ExplainOut.model_fields if hasattr(task, name)}
    reasons = [ReasonOut(kind=r.kind, detail=r.detail, **r.refs) for r in explain(db, task)]
    return Reply(ExplainOut(task_id=task.id, waiting_for=reasons, **known))
