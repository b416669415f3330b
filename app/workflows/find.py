"""Find: read workflows and how they stand."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import select, text
from sqlalchemy.orm import Session, defer

from app import cursors
from app.db import Db
from app.errors import NotFound
from app.prepared import prepared
from app.tasks.find import weigh
from schema.base import one_of
from schema.tasks import TERMINAL, TaskStatus
from schema.workflows import ENDED, Workflow

#: A page ends before its workflows have more tasks than this, for all are counted; one workflow there always is.
MOST_TASKS = 200_000
#: Workflows of a page that are counted at once.
_CHUNK = 10
_COLUMNS = ", ".join(column.name for column in Workflow.__table__.columns)
_ROW = prepared("workflow", f"SELECT {_COLUMNS} FROM workflows WHERE id = :id")  # noqa: S608
_SHORT = ", ".join(column.name for column in Workflow.__table__.columns if column.name != "document")
_SHORT_ROW = prepared("workflow_short", f"SELECT {_SHORT} FROM workflows WHERE id = :id")  # noqa: S608
_STATUS = prepared("workflow_status", "SELECT status FROM workflows WHERE id = :id")
# `done` is of the document's tasks alone, so that what a map adds does not set its workflow back.
_COUNTS = text(
    f"""
    WITH t AS (
        SELECT id, workflow_id, mapped_from, status, ({one_of("status", TERMINAL)})::int AS ended
        FROM tasks WHERE workflow_id = ANY(:ids)
    ), items AS (
        SELECT mapped_from, avg(ended) AS done FROM t WHERE mapped_from IS NOT NULL GROUP BY mapped_from
    )
    SELECT workflow_id, status, count(*) AS tasks, count(*) FILTER (WHERE t.mapped_from IS NULL) AS own,
           coalesce(sum(greatest(ended, items.done)) FILTER (WHERE t.mapped_from IS NULL), 0)::float8 AS done
    FROM t LEFT JOIN items ON items.mapped_from = t.id
    GROUP BY workflow_id, status
    """  # noqa: S608
)
_LARGE = ("input", "description", "error", "labels")


@dataclass(frozen=True, kw_only=True)
class Filter:
    """Which workflows to list. None: any."""

    owner: str | None = None
    status: str | None = None
    name: str | None = None
    #: (key, value) that the labels hold.
    label: tuple[str, str] | None = None
    session_id: str | None = None


@dataclass(kw_only=True)
class Standing:
    """How far a workflow's tasks are."""

    #: How many are in each state, items of maps among them.
    counts: dict[str, int] = field(default_factory=lambda: {str(status): 0 for status in TaskStatus})
    #: Tasks of the document, and how many of them have ended; one with `map` in parts.
    own: int = 0
    done: float = 0

    def progress(self, status: str) -> int:
        """0 to 100; 100 only if the workflow's own status says that it has ended."""
        if status in ENDED:
            return 100
        return min(99, int(100 * self.done / self.own)) if self.own else 0


def see(db: Db, workflow_id: str, owner: str | None) -> Any:
    """The workflow's row, if `owner` may see it (None: whoever owns it).

    Raises:
        NotFound: there is none, or it is another owner's.
    """
    return _row(db, _ROW, workflow_id, owner)


def look(db: Db, workflow_id: str, owner: str | None) -> Any:
    """The same without its document, which can be megabytes."""
    return _row(db, _SHORT_ROW, workflow_id, owner)


def has_ended(db: Db, workflow_id: str) -> bool:
    """Whether the workflow has ended or is gone. The status alone is read: document and input can be megabytes."""
    return db.execute(_STATUS, {"id": workflow_id}).scalar() in (*ENDED, None)


def standings(db: Db, ids: Iterable[str]) -> dict[str, Standing]:
    """How far each of these workflows is."""
    found = {workflow_id: Standing() for workflow_id in ids}
    for row in db.execute(_COUNTS, {"ids": list(found)}):
        standing = found[row.workflow_id]
        standing.counts[row.status] = row.tasks
        standing.own += row.own
        standing.done += row.done
    return found


def find(
    db: Session, wanted: Filter, cursor: str | None, limit: int
) -> tuple[list[tuple[Workflow, Standing]], str | None]:
    """A page of workflows, newest first, and the cursor of the next page; their documents are not read.

    It ends early where workflows are heavy or have many tasks.

    Raises:
        Invalid: the cursor is not one of ours.
    """
    query = select(Workflow.id, Workflow.created_at, *(getattr(Workflow, name) for name in _LARGE))
    for column in ("owner", "status", "name", "session_id"):
        if (value := getattr(wanted, column)) is not None:
            query = query.where(getattr(Workflow, column) == value)
    if wanted.label:
        key, value = wanted.label
        query = query.where(Workflow.labels.contains({key: value}))
    query = cursors.after(query, Workflow.created_at, Workflow.id, cursor, limit)
    keys, fitting = weigh(db, query, _LARGE, lambda c: (c.created_at.desc(), c.id.desc()), limit)
    counted = _count_some(db, [key.id for key in keys[:fitting]])
    page, next_cursor = cursors.page(keys, len(counted) or limit)
    rows = select(Workflow).where(Workflow.id.in_(list(counted))).options(defer(Workflow.document, raiseload=True))
    workflows = {workflow.id: workflow for workflow in db.scalars(rows)}
    return [(workflows[key.id], counted[key.id]) for key in page if key.id in workflows], next_cursor


def _row(db: Db, statement: Any, workflow_id: str, owner: str | None) -> Any:
    row = db.execute(statement, {"id": workflow_id}).one_or_none()
    if row is None or (owner is not None and row.owner != owner):
        raise NotFound(f"No workflow {workflow_id}.")
    return row


def _count_some(db: Session, ids: Sequence[str]) -> dict[str, Standing]:
    """The standings of the first of these, as many as may be counted for one page."""
    kept: dict[str, Standing] = {}
    tasks = 0
    for start in range(0, len(ids), _CHUNK):
        for workflow_id, standing in standings(db, ids[start : start + _CHUNK]).items():
            tasks += sum(standing.counts.values())
            if kept and tasks > MOST_TASKS:
                return kept
            kept[workflow_id] = standing
    return kept
