"""Models of workflows."""

from __future__ import annotations

import json
from typing import Annotated, Any, Self

from pydantic import AfterValidator, Field, ValidationError, WithJsonSchema

from api.payloads.common import Id, In, LabelledQuery, Labels, Name, Out, Page, Words
from api.payloads.tasks import WorkIn
from app.errors import Invalid, Problem
from app.moments import Moment, Stamp
from app.workflows.asked import NewStep, NewWorkflow
from app.workflows.find import Standing
from app.workflows.graph import MAX_ITEMS, MAX_TASKS
from schema.tasks import OnFailure, TaskStatus
from schema.workflows import WorkflowStatus

MAX_INPUT_BYTES = 2**20


def _small(value: dict[str, Any]) -> dict[str, Any]:
    if len(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()) > MAX_INPUT_BYTES:
        raise ValueError(f"larger than {MAX_INPUT_BYTES} bytes")
    return value


def _condition(value: Any) -> Any:
    if not isinstance(value, bool | dict):
        raise ValueError("must be true, false or an object")
    return value


def _elements(value: Any) -> Any:
    if not isinstance(value, list | dict):
        raise ValueError("must be a list, or an object that is a reference to one")
    if isinstance(value, list) and len(value) > MAX_ITEMS:
        raise ValueError(f"must have at most {MAX_ITEMS} elements")
    return value


_Key = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,200}$")]
_Input = Annotated[dict[str, Any], AfterValidator(_small)]
_Condition = Annotated[
    Any, AfterValidator(_condition), WithJsonSchema({"anyOf": [{"type": "boolean"}, {"type": "object"}]})
]
_Elements = Annotated[
    Any,
    AfterValidator(_elements),
    WithJsonSchema({"anyOf": [{"type": "array", "maxItems": MAX_ITEMS}, {"type": "object", "required": ["$ref"]}]}),
]


class StepIn(WorkIn):
    """A task of a workflow. Its payload may hold references."""

    key: _Key = Field(description="Its name in the workflow.")
    depends_on: Annotated[list[Annotated[str, Field(max_length=200)]], Field(max_length=MAX_TASKS)] = Field(
        default_factory=list, description="Keys of the tasks that end first."
    )
    when: _Condition = Field(None, description="A condition: if it does not hold, the task is skipped.")
    on_failure: OnFailure = Field(
        OnFailure.SKIP,
        description="If it does not succeed: `skip` what depends on it, `continue` as if it had, or `cancel` all.",
    )
    map: _Elements = Field(
        None, description="A list, or a reference to one: done once for each element, which the payload has as `item`."
    )

    def to_new_step(self) -> NewStep:
        """The same in app's words."""
        return NewStep(**self.in_words_of_app())


class WorkflowIn(In):
    """Tasks, and which of them end before which."""

    name: Name
    description: Words = Field("", description="For people.")
    input: _Input = Field(default_factory=dict, description="What references to `input` read; 1 MiB at most.")
    labels: Labels = Field(default_factory=dict)
    session_id: Id | None = Field(None, description="The session that it and its tasks belong to.")
    deadline: Moment | None = Field(None, description="What each of its tasks has at the latest.")
    max_running: Annotated[int, Field(ge=1, le=MAX_TASKS)] | None = Field(
        None, description="At most so many of its tasks are under way at once."
    )
    tasks: Annotated[list[StepIn], Field(min_length=1, max_length=MAX_TASKS)]

    def to_new_workflow(self) -> NewWorkflow:
        """The same in app's words."""
        document = self.model_dump(mode="json", exclude={"input"}, exclude_unset=True)
        tasks = [step.to_new_step() for step in self.tasks]
        return NewWorkflow(**self.__dict__ | {"tasks": tasks, "document": document})


def once_more(document: dict[str, Any], input_: dict[str, Any]) -> NewWorkflow:
    """What a stored document asks for, with this input. Its deadlines were for the first time.

    Raises:
        Invalid: this version takes it no more.
    """
    tasks = [{name: value for name, value in task.items() if name != "deadline"} for task in document["tasks"]]
    asked = {name: value for name, value in document.items() if name != "deadline"} | {"tasks": tasks, "input": input_}
    try:
        # As it is stored, as JSON, times and enumerations are text.
        return WorkflowIn.model_validate_json(json.dumps(asked)).to_new_workflow()
    except ValidationError as exc:
        problems = [Problem(e["loc"], e["msg"]) for e in exc.errors(include_url=False)]
        raise Invalid("The workflow cannot be run again as it was.", problems=problems) from None


class RerunIn(In):
    """The same workflow once more."""

    input: _Input | None = Field(None, description="In place of the input that it had; default: the same again.")


class WorkflowListQuery(LabelledQuery):
    """Which workflows to list."""

    status: WorkflowStatus | None = None
    name: Name | None = None
    session_id: Id | None = None


class WorkflowOut(Out):
    """A workflow."""

    id: str
    name: str
    description: str
    status: WorkflowStatus
    progress: int = Field(description="0 to 100: the part of its tasks that has ended. 100 only once it has ended.")
    counts: dict[TaskStatus, int] = Field(description="How many tasks are in each state, items of maps among them.")
    input: dict[str, Any]
    labels: dict[str, str]
    max_running: int | None
    deadline: Stamp | None
    session_id: str | None
    rerun_of: str | None = Field(description="The workflow that this one runs again.")
    error: str | None = Field(description="Why it failed, in one sentence.")
    owner: str
    created_at: Stamp
    updated_at: Stamp
    started_at: Stamp | None
    completed_at: Stamp | None
    cancel_requested_at: Stamp | None

    @classmethod
    def of(cls, workflow: Any, standing: Standing) -> Self:
        """A row of the table, and how its tasks stand."""
        told = {"progress": standing.progress(workflow.status), "counts": standing.counts}
        stored = {name: getattr(workflow, name) for name in cls.model_fields if name not in told}
        return cls.model_validate(stored | told)


class DocumentedWorkflowOut(WorkflowOut):
    """A workflow with what was posted."""

    document: dict[str, Any] = Field(description="As posted, its input apart.")


class WorkflowPage(Page[WorkflowOut]):
    """Workflows, the newest first."""


class NodeOut(Out):
    """A task in the graph of its workflow."""

    key: str
    task_id: str
    task_type: str
    status: TaskStatus
    progress: int | None = Field(description="0 to 100.")
    attempt: int
    started_at: Stamp | None
    completed_at: Stamp | None
    duration_s: float | None = Field(description="How long the newest try took, or has taken so far.")
    error: str | None
    mapped_from: str | None = Field(description="The key of the task with `map` that it is an item of.")


class GraphOut(Out):
    """Which tasks of a workflow end before which, and how they stand."""

    nodes: list[NodeOut] = Field(description="Parents before their children; items after the task that they come from.")
    edges: list[tuple[str, str]] = Field(
        description="Keys: who ends first, and who waits for it. Items end before the task that they come from."
    )
    critical_path: list[str] = Field(description="Keys of the chain of tasks that took longest so far.")
    left_out: int = Field(description="Items of maps that are not among the nodes, of which there are at most 20,000.")
