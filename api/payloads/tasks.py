"""Models of tasks."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, ConfigDict, Field

from api.payloads.common import Id, In, LabelledQuery, Labels, Out, Page, Query, Words
from app.moments import Moment, Stamp
from app.queues import Queue
from app.tasks.check import NewTask
from app.tasks.types import TASK_TYPES
from schema.tasks import EventKind, Priority, TaskStatus

_TYPES = TASK_TYPES.values()
_MAX_DELAY_S = 30 * 24 * 3600


class RetryPolicyIn(In):
    """The waits between tries, each varied by up to a fifth."""

    delay_s: float = Field(1, ge=0, le=3600, allow_inf_nan=False, description="The first wait, in seconds.")
    factor: float = Field(2, ge=1, le=10, allow_inf_nan=False, description="Each wait is so many times the last one.")
    max_delay_s: float = Field(
        300, ge=0, le=24 * 3600, allow_inf_nan=False, description="No wait is longer before that."
    )


class WorkIn(In):
    """What there is to do, alone or in a workflow."""

    task_type: Annotated[str, Field(min_length=1, max_length=50)] = Field(
        description="What kind of work it is.", json_schema_extra={"enum": [*sorted(TASK_TYPES)]}
    )
    payload: dict[str, Any] = Field(
        description=f"What the task type needs: {', '.join(f'{t.payload.__name__} (`{t.name}`)' for t in _TYPES)}."
    )
    description: Words = Field("", description="For people; searched by `q`.")
    priority: Priority = Field(Priority.NORMAL, description="Who is admitted first.")
    deadline: Moment | None = Field(None, description="Fails if it has not ended by then. RFC 3339 with offset.")
    assigned_to: Id | None = Field(None, description="The agent that shall do it; default: any of the queue's role.")
    max_attempts: int = Field(1, ge=1, le=100, description="Tries before it fails for good.")
    delay_s: float = Field(0, ge=0, le=_MAX_DELAY_S, allow_inf_nan=False, description="Not started before, in seconds.")
    retry: RetryPolicyIn | None = Field(None, description="The waits between tries. Default: 1, 2, 4 … 300 s.")
    labels: Labels = Field(default_factory=dict)

    def in_words_of_app(self) -> dict[str, Any]:
        """Its fields, as app's dataclasses take them."""
        return self.__dict__ | {"retry": self.retry.model_dump() if self.retry else None}


class TaskIn(WorkIn):
    """A task to be done."""

    dependencies: Annotated[list[Id], Field(max_length=1000)] = Field(
        default_factory=list,
        description="Ids of your tasks that must succeed first. At most 10,000 tasks can wait for one.",
    )
    session_id: Id | None = Field(None, description="The session it belongs to.")

    def to_new_task(self) -> NewTask:
        """The same in app's words."""
        return NewTask(**self.in_words_of_app())


class TaskBatchIn(In):
    """Tasks that are accepted all or none."""

    tasks: Annotated[list[TaskIn], Field(min_length=1, max_length=1000)]


class RetryIn(In):
    """A new round of a task that has ended badly."""

    payload: dict[str, Any] | None = Field(None, description="Replaces the payload; default: the same again.")


class TaskListQuery(LabelledQuery):
    """Which tasks to list."""

    status: TaskStatus | None = None
    task_type: Annotated[str, Field(max_length=50)] | None = None
    queue: Queue | None = None
    q: Annotated[str, Field(max_length=1000)] | None = Field(None, description="Part of the description, or an id.")
    workflow_id: Id | None = None
    session_id: Id | None = None


class AfterQuery(Query):
    """Where to go on in a task's events."""

    after: int = Field(0, ge=0, le=2**31 - 1, description="Only what has a greater seq.")
    limit: int = Field(100, ge=1, le=1000, description="Most items in a page.")


class TaskOut(Out):
    """A task."""

    id: str
    description: str
    task_type: str
    priority: Priority
    status: TaskStatus
    progress: int | None = Field(description="0 to 100.")
    assigned_to: str | None = Field(description="The agent that does it.")
    deadline: Stamp | None
    dependencies: Annotated[list[str], BeforeValidator(lambda ids: ids or [])]
    result: dict[str, Any] | None
    error: str | None = Field(description="Why it failed, in one sentence.")
    created_at: Stamp
    updated_at: Stamp
    completed_at: Stamp | None
    attempt: int = Field(description="Number of the newest try; 0: none yet. Never falls.")
    max_attempts: int
    round: int = Field(description="Raised by each manual retry.")
    queue: Queue
    workflow_id: str | None
    key: str | None = Field(description="Its name in the workflow; an item of a map is called `key[0]`, `key[1]` …")
    payload: dict[str, Any]
    labels: dict[str, str]
    owner: str
    session_id: str | None
    started_at: Stamp | None = Field(description="Start of the newest try.")
    available_at: Stamp = Field(description="Not started before this: a delay, or the wait before another try.")
    failures: int = Field(description="Tries that failed in this round; `max_attempts` of them end it.")


class TaskPage(Page[TaskOut]):
    """Tasks, the newest first."""


class AcceptedOut(Out):
    """An accepted task of a batch."""

    id: str
    status: TaskStatus


class TaskBatchOut(Out):
    """The accepted tasks, in the order given."""

    items: list[AcceptedOut]


class EventOut(Out):
    """A fact about a task."""

    seq: int = Field(description="Counts from 1 without gaps, per task.")
    kind: EventKind
    at: Stamp
    attempt: int
    data: dict[str, Any]


class EventPage(Page[EventOut]):
    """Events of a task, in order."""


class LogOut(Out):
    """A piece of a program's output."""

    seq: int
    at: Stamp
    attempt: int
    stream: str = Field(description="`stdout` or `stderr`.")
    text: str


class LogPage(Page[LogOut]):
    """Output of a task's programs, in order."""


class AttemptOut(Out):
    """One try at a task."""

    attempt: int
    round: int
    worker: str
    started_at: Stamp
    ended_at: Stamp | None
    outcome: str | None = Field(description="`succeeded`, `failed`, `cancelled`, `lease_expired` or `handed_back`.")
    error: str | None


class AttemptPage(Page[AttemptOut]):
    """The tries at a task, in order."""


class ArtifactOut(Out):
    """A file that a program left behind."""

    name: str = Field(description="Relative to /workspace/out.")
    size: int = Field(description="Bytes.")
    created_at: Stamp


class ArtifactPage(Page[ArtifactOut]):
    """All files of a task, by name."""


class ReasonOut(Out):
    """One thing a task waits for; ids of what it names are further fields."""

    model_config = ConfigDict(extra="allow")

    kind: str = Field(description="parent, time, workflow, agent, limit, room, admission, worker, lease or cancel.")
    detail: str


class ExplainOut(Out):
    """Why a task stands where it stands."""

    task_id: str
    status: TaskStatus
    waiting_for: list[ReasonOut] = Field(description="The nearest cause first; empty once it has ended.")
    attempt: int
    failures: int
    available_at: Stamp
    deadline: Stamp | None
    dispatches: int = Field(description="Envelopes sent since it was admitted.")
    last_dispatched_at: Stamp | None
    next_dispatch_at: Stamp | None
    lease_until: Stamp | None
    cancel_requested_at: Stamp | None
