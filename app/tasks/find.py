"""Find: read tasks, their events and their logs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from app import cursors
from app.errors import NotFound
from schema.tasks import Attempt, Event, EventKind, Task


@dataclass(frozen=True, kw_only=True)
class Filter:
    """Which tasks to list. None: any."""

    owner: str | None = None
    status: str | None = None
    task_type: str | None = None
    queue: str | None = None
    #: (key, value) that the labels hold.
    label: tuple[str, str] | None = None
    #: Part of the description, or an id.
    q: str | None = None
    workflow_id: str | None = None
    session_id: str | None = None


def get(db: Session, task_id: str, owner: str | None) -> Task:
    """The task, if `owner` may see it (None: whoever owns it).

    Raises:
        NotFound: there is none, or it is another owner's.
    """
    task = db.get(Task, task_id)
    if task is None or (owner is not None and task.owner != owner):
        raise NotFound(f"No task {task_id}.")
    return task


def get_many(db: Session, task_ids: Sequence[str]) -> dict[str, Task]:
    """Tasks by id."""
    return {task.id: task for task in db.scalars(select(Task).where(Task.id.in_(task_ids)))}


def find(db: Session, wanted: Filter, cursor: str | None, limit: int) -> tuple[list[Task], str | None]:
    """A page of tasks, newest first, and the cursor of the next page.

    Raises:
        Invalid: the cursor is not one of ours.
    """
    query = select(Task)
    for column in ("owner", "status", "task_type", "queue", "workflow_id", "session_id"):
        if (value := getattr(wanted, column)) is not None:
            query = query.where(getattr(Task, column) == value)
    if wanted.label:
        key, value = wanted.label
        query = query.where(Task.labels.contains({key: value}))
    if wanted.q:
        query = query.where(or_(Task.description.icontains(wanted.q, autoescape=True), Task.id == wanted.q))
    rows = list(db.scalars(cursors.after(query, Task.created_at, Task.id, cursor, limit)))
    return cursors.page(rows, limit)


def events(
    db: Session, task_id: str, after: int, limit: int, kinds: Sequence[EventKind] = ()
) -> tuple[list[Event], str | None]:
    """Events of a task with seq above `after`, in order, and the seq to go on from if there are more."""
    query = select(Event).where(Event.task_id == task_id, Event.seq > after)
    if kinds:
        query = query.where(Event.kind.in_(kinds))
    rows = list(db.scalars(query.order_by(Event.seq).limit(limit + 1)))
    return rows[:limit], str(rows[limit - 1].seq) if len(rows) > limit else None


def is_open(db: Session, task_id: str, attempt: int) -> bool:
    """Whether this attempt has not ended yet."""
    return bool(db.scalar(select(Attempt.ended_at.is_(None)).filter_by(task_id=task_id, attempt=attempt)))


def attempts(db: Session, task_id: str) -> list[Attempt]:
    """The attempts at a task, in order."""
    return list(db.scalars(select(Attempt).where(Attempt.task_id == task_id).order_by(Attempt.attempt)))
