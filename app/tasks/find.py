"""Find: read tasks, their events and their logs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Text, case, cast, func, literal, or_, select, text
from sqlalchemy.orm import Session

from app import cursors
from app.db import Db
from app.errors import NotFound
from app.prepared import prepared
from schema.tasks import TASK_COLUMNS, TERMINAL, Attempt, Event, EventKind, Task

#: A page ends before its large columns hold more than this; one row there always is.
MOST_BYTES = 4 * 2**20
_ROW = prepared("task", f"SELECT {TASK_COLUMNS} FROM tasks WHERE id = :id")  # noqa: S608
_STATUS = prepared("task_status", "SELECT status FROM tasks WHERE id = :id")
_OPEN_CONTAINERS = text(
    """
    SELECT a.container_id FROM tasks t JOIN attempts a ON a.task_id = t.id AND a.attempt = t.attempt
    WHERE t.status = 'running' AND a.container_id IS NOT NULL
    """
)
_LARGE = ("payload", "result", "description", "error", "dependencies", "labels")


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


def see(db: Db, task_id: str, owner: str | None) -> Any:
    """The task's row as it stands, for showing. Raises NotFound as `get` does."""
    row = db.execute(_ROW, {"id": task_id}).one_or_none()
    if row is None or (owner is not None and row.owner != owner):
        raise NotFound(f"No task {task_id}.")
    return row


def has_ended(db: Db, task_id: str) -> bool:
    """Whether the task has ended or is gone. The status alone is read: payload and result can be megabytes."""
    return db.execute(_STATUS, {"id": task_id}).scalar() in (*TERMINAL, None)


def get_many(db: Session, task_ids: Sequence[str]) -> dict[str, Task]:
    """Tasks by id."""
    return {task.id: task for task in db.scalars(select(Task).where(Task.id.in_(task_ids)))}


def find(db: Session, wanted: Filter, cursor: str | None, limit: int) -> tuple[list[Task], str | None]:
    """A page of tasks, newest first, and the cursor of the next page. It ends early where tasks are heavy.

    Raises:
        Invalid: the cursor is not one of ours.
    """
    query = select(Task.id, Task.created_at, *(getattr(Task, name) for name in _LARGE))
    for column in ("owner", "status", "task_type", "queue", "workflow_id", "session_id"):
        if (value := getattr(wanted, column)) is not None:
            query = query.where(getattr(Task, column) == value)
    if wanted.label:
        key, value = wanted.label
        query = query.where(Task.labels.contains({key: value}))
    if wanted.q:
        query = query.where(or_(Task.description.icontains(wanted.q, autoescape=True), Task.id == wanted.q))
    query = cursors.after(query, Task.created_at, Task.id, cursor, limit)
    keys, fitting = weigh(db, query, _LARGE, lambda c: (c.created_at.desc(), c.id.desc()), limit)
    page, next_cursor = cursors.page(keys, fitting)
    tasks = get_many(db, [key.id for key in page])
    return [tasks[key.id] for key in page if key.id in tasks], next_cursor


def events(
    db: Session, task_id: str, after: int, limit: int, kinds: Sequence[EventKind] = ()
) -> tuple[list[Event], str | None]:
    """Events of a task with seq above `after`, in order, and the seq to go on from if there are more.

    A page ends early where events are heavy.
    """
    query = select(Event.seq, Event.data).where(Event.task_id == task_id, Event.seq > after)
    if kinds:
        query = query.where(Event.kind.in_(kinds))
    keys, fitting = weigh(db, query.order_by(Event.seq).limit(limit + 1), ("data",), lambda c: (c.seq,), limit)
    seqs = [key.seq for key in keys[:fitting]]
    page = select(Event).where(Event.task_id == task_id, Event.seq.in_(seqs)).order_by(Event.seq)
    return list(db.scalars(page)), str(seqs[-1]) if len(keys) > fitting else None


def open_containers(db: Db) -> set[str]:
    """The containers and processes that attempts which have not ended run in."""
    return set(db.execute(_OPEN_CONTAINERS).scalars())


def attempts(db: Session, task_id: str) -> list[Attempt]:
    """The attempts at a task, in order."""
    return list(db.scalars(select(Attempt).where(Attempt.task_id == task_id).order_by(Attempt.attempt)))


def weigh(
    db: Db, query: Any, large: Sequence[str], order: Callable[[Any], tuple[Any, ...]], limit: int
) -> tuple[list[Any], int]:
    """The rows of `query` without their `large` columns, and how many of them make a page of at most `limit`.

    `query` asks for one row more than `limit`, and is in the order that `order` makes of its columns.

    Postgres weighs, so nothing heavy travels. Sizes as stored cost it nothing, but compressed text is larger: rows are
    opened as far as what is stored would fit.
    """
    rows = query.subquery()
    stored = _total(func.pg_column_size(rows.c[name]) for name in large)
    before = func.sum(stored).over(order_by=order(rows.c)) - stored
    opened = select(rows, before.label("before")).subquery()
    shown = _total(func.octet_length(cast(opened.c[name], Text)) for name in large)
    weight = func.sum(case((opened.c.before < MOST_BYTES, shown), else_=MOST_BYTES)).over(order_by=order(opened.c))
    keys = [column for column in opened.c if column.key not in large]
    found: list[Any] = list(db.execute(select(*keys, weight.label("weight")).order_by(*order(opened.c))))
    return found, min(limit, max(1, sum(row.weight <= MOST_BYTES for row in found)))


def _total(sizes: Iterable[Any]) -> Any:
    return sum((func.coalesce(size, 0) for size in sizes), literal(0))
