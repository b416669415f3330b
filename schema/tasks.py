"""Task, its attempts, its events, and the edges to the tasks that wait for it."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from sqlalchemy import BigInteger, CheckConstraint, Computed, ForeignKey, Identity, Index, SmallInteger, Text, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from schema.base import Base, Id, Json, Name, Now, Time, Word, one_of


class TaskStatus(StrEnum):
    """Where a task stands. The last four are terminal."""

    PENDING = "pending"
    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    SKIPPED = "skipped"


TERMINAL = (TaskStatus.SUCCEEDED, TaskStatus.FAILED, TaskStatus.CANCELLED, TaskStatus.SKIPPED)


class Priority(StrEnum):
    """Who is admitted first."""

    HIGH = "high"
    NORMAL = "normal"
    LOW = "low"


_IN_WORKFLOW = "workflow_id IS NOT NULL"


class Carrier(StrEnum):
    """Who brings a pending task to its queue once its parents are done."""

    #: The next admission.
    GATEWAY = "gateway"
    #: Nobody, until its workflow has been looked at (app/workflows/advance.py).
    COORDINATOR = "coordinator"
    #: A chain or chord that is on its way.
    CANVAS = "canvas"


class OnFailure(StrEnum):
    """What becomes of the tasks below one that did not succeed."""

    SKIP = "skip"
    CONTINUE = "continue"
    CANCEL = "cancel"


class Task(Base):
    """Requested work: the row is the truth, the envelope only a doorbell."""

    __tablename__ = "tasks"

    id: Mapped[Id] = mapped_column(primary_key=True)
    owner: Mapped[Name]
    task_type: Mapped[Word]
    description: Mapped[str] = mapped_column(Text)
    payload: Mapped[Json]
    labels: Mapped[Json] = mapped_column(server_default=text("'{}'"))
    priority: Mapped[Word] = mapped_column(server_default=Priority.NORMAL)
    #: 0 is first: what admission sorts by.
    priority_rank: Mapped[int] = mapped_column(
        SmallInteger,
        Computed("CASE priority WHEN 'high' THEN 0 WHEN 'normal' THEN 1 ELSE 2 END", persisted=True),
    )
    queue: Mapped[Word]
    assigned_to: Mapped[Id | None] = mapped_column(ForeignKey("agents.id"))
    #: Whether assigned_to came with the POST; otherwise each admission picks anew.
    pinned: Mapped[bool] = mapped_column(server_default=text("false"))
    session_id: Mapped[Id | None] = mapped_column(ForeignKey("sessions.id"))
    #: What follows is of a workflow's tasks alone.
    workflow_id: Mapped[Id | None]
    #: Its name in the workflow; an item of a map is called key[0], key[1] …
    key: Mapped[Name | None]
    on_failure: Mapped[Word] = mapped_column(server_default=OnFailure.SKIP)
    #: What is looked at before it may start: `payload` with references, `when`, `map`. None: nothing.
    rules: Mapped[dict[str, Any] | None] = mapped_column(JSONB)
    #: The task with `map` that this is an item of, and the item's position from 0.
    mapped_from: Mapped[Id | None]
    position: Mapped[int | None]
    carrier: Mapped[Word] = mapped_column(server_default=Carrier.GATEWAY)

    status: Mapped[Word] = mapped_column(server_default=TaskStatus.PENDING)
    progress: Mapped[int | None] = mapped_column(server_default=text("0"))
    result: Mapped[dict[str, Any] | None] = mapped_column(JSONB)
    error: Mapped[str | None] = mapped_column(Text)

    #: Ids of the parents, as posted.
    dependencies: Mapped[list[str] | None] = mapped_column(JSONB)
    #: Parents, or items, that its start or end waits for.
    deps_left: Mapped[int] = mapped_column(server_default=text("0"))
    #: Not admitted before this: a delayed start or the wait before a retry.
    available_at: Mapped[Now]
    deadline: Mapped[Time | None]

    #: Raised by a manual retry; a task ends at most once a round.
    round: Mapped[int] = mapped_column(server_default=text("1"))
    #: The fencing token: raised by each claim, never lowered.
    attempt: Mapped[int] = mapped_column(server_default=text("0"))
    #: Failures of the program in this round; the task fails when they reach max_attempts.
    failures: Mapped[int] = mapped_column(server_default=text("0"))
    max_attempts: Mapped[int] = mapped_column(server_default=text("1"))
    #: The waits between tries: `delay_s`, `factor`, `max_delay_s`. None: as usual.
    retry: Mapped[dict[str, Any] | None] = mapped_column(JSONB)
    #: Lost workers and sandbox faults in this round, with a bound of their own.
    infra_failures: Mapped[int] = mapped_column(server_default=text("0"))

    #: Envelopes sent since admission, and when the next is due if nobody claims; of a task that a canvas carries, when
    #: that has become too late.
    dispatches: Mapped[int] = mapped_column(server_default=text("0"))
    last_dispatched_at: Mapped[Time | None]
    next_dispatch_at: Mapped[Time | None]
    #: The worker process that holds the lease, and until when without a heartbeat.
    lease_owner: Mapped[Name | None]
    lease_until: Mapped[Time | None]
    cancel_requested_at: Mapped[Time | None]
    #: seq of the newest event.
    last_seq: Mapped[int] = mapped_column(server_default=text("0"))

    created_at: Mapped[Now]
    updated_at: Mapped[Now]
    started_at: Mapped[Time | None]
    completed_at: Mapped[Time | None]

    __table_args__ = (
        CheckConstraint(one_of("status", TaskStatus), name="status"),
        CheckConstraint(one_of("priority", Priority), name="priority"),
        CheckConstraint(one_of("carrier", Carrier), name="carrier"),
        CheckConstraint(one_of("on_failure", OnFailure), name="on_failure"),
        CheckConstraint("progress BETWEEN 0 AND 100", name="progress"),
        CheckConstraint("deps_left >= 0", name="deps_left"),
        Index("tasks_idx_status", "status"),
        Index("tasks_idx_assigned_to", "assigned_to"),
        Index("tasks_idx_created_at", "created_at"),
        # Lists: newest first within an owner.
        Index("tasks_idx_owner", "owner", text("created_at DESC"), text("id DESC")),
        Index("tasks_idx_session", "session_id", postgresql_where=text("session_id IS NOT NULL")),
        # Admission: the head of each owner's line, per queue and priority.
        Index(
            "tasks_idx_admissible",
            "queue",
            "owner",
            "priority_rank",
            "available_at",
            "id",
            postgresql_where=text("status = 'pending' AND deps_left = 0 AND carrier = 'gateway'"),
        ),
        Index("tasks_idx_workflow_key", "workflow_id", "key", unique=True, postgresql_where=text(_IN_WORKFLOW)),
        # The coordinator: what is still open of a workflow, and what is ready in it.
        Index(
            "tasks_idx_workflow_open",
            "workflow_id",
            postgresql_where=text(f"{_IN_WORKFLOW} AND status IN ('pending', 'queued', 'running')"),
        ),
        Index(
            "tasks_idx_workflow_ready",
            "workflow_id",
            "priority_rank",
            "available_at",
            "id",
            postgresql_where=text("status = 'pending' AND deps_left = 0 AND carrier <> 'gateway'"),
        ),
        Index(
            "tasks_idx_workflow_abort",
            "workflow_id",
            postgresql_where=text(f"{_IN_WORKFLOW} AND on_failure = 'cancel' AND status IN ('failed', 'cancelled')"),
        ),
        # Which task was told of a memory (app/memory/forget.py).
        Index("tasks_idx_stored", text("(result ->> 'id')"), postgresql_where=text("task_type = 'memory.store'")),
        Index("tasks_idx_mapped_from", "mapped_from", postgresql_where=text("mapped_from IS NOT NULL")),
        # The clock: only rows in flight, so both stay small.
        Index("tasks_idx_next_dispatch", "next_dispatch_at", postgresql_where=text("status = 'queued'")),
        Index("tasks_idx_running", "id", postgresql_where=text("status = 'running'")),
        Index(
            "tasks_idx_deadline",
            "deadline",
            postgresql_where=text("deadline IS NOT NULL AND status IN ('pending', 'queued')"),
        ),
    )


#: Every column, for statements that must name them.
TASK_COLUMNS = ", ".join(column.name for column in Task.__table__.columns)


class Edge(Base):
    """A child still waits for a parent: `tasks.dependencies` turned round, so that a finish finds whom to release.

    The row goes when the parent has succeeded, so `deps_left` of a task is the number of its rows here.
    """

    __tablename__ = "edges"

    parent_id: Mapped[Id] = mapped_column(ForeignKey("tasks.id", ondelete="CASCADE"), primary_key=True)
    child_id: Mapped[Id] = mapped_column(ForeignKey("tasks.id", ondelete="CASCADE"), primary_key=True)

    __table_args__ = (Index("edges_idx_child", "child_id"),)


class Attempt(Base):
    """One try at a task by one worker process.

    Attempts and events carry no foreign key to their task: they are only ever written in the statement that has
    just changed its row, and checking each again costs as much as writing it.
    """

    __tablename__ = "attempts"

    task_id: Mapped[Id] = mapped_column(primary_key=True)
    attempt: Mapped[int] = mapped_column(primary_key=True)
    round: Mapped[int]
    worker: Mapped[Name]
    #: The sandbox container or process, recorded before any code is sent to it.
    container_id: Mapped[Name | None]
    started_at: Mapped[Now]
    ended_at: Mapped[Time | None]
    #: succeeded, failed, cancelled, retrying, lease_expired or handed_back.
    outcome: Mapped[Word | None]
    error: Mapped[str | None] = mapped_column(Text)


class EventKind(StrEnum):
    """What can happen to a task."""

    ACCEPTED = "accepted"
    QUEUED = "queued"
    RUNNING = "running"
    PROGRESS = "progress"
    LOG = "log"
    RETRYING = "retrying"
    LEASE_EXPIRED = "lease_expired"
    CANCEL_REQUESTED = "cancel_requested"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    SKIPPED = "skipped"


class Event(Base):
    """An append-only fact about a task; `seq` counts from 1 without gaps, per task."""

    __tablename__ = "events"

    task_id: Mapped[Id] = mapped_column(primary_key=True)
    seq: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[Word]
    at: Mapped[Now]
    round: Mapped[int]
    attempt: Mapped[int]
    data: Mapped[Json] = mapped_column(server_default=text("'{}'"))
    #: The order over all tasks (app/streams/): the transaction that wrote it, or a later one that wrote an event of the
    #: same task before, for which there is a trigger; and its place among all events.
    xid: Mapped[int] = mapped_column(BigInteger, server_default=text("(pg_current_xact_id()::text)::bigint"))
    id: Mapped[int] = mapped_column(BigInteger, Identity())

    __table_args__ = (
        CheckConstraint(one_of("kind", EventKind), name="kind"),
        Index("events_idx_order", "xid", "id"),
        # Which agent a task had when something happened to it: that of its last admission before.
        Index("events_idx_queued", "task_id", "seq", postgresql_where=text("kind = 'queued'")),
        # Ending twice is impossible.
        Index(
            "events_one_end_a_round",
            "task_id",
            "round",
            unique=True,
            postgresql_where=text(one_of("kind", TERMINAL)),
        ),
    )
