"""Models of workflows: what is accepted, what is refused and where, and what is kept."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import BaseModel
from werkzeug.datastructures import MultiDict

from api.payloads.tasks import TaskIn
from api.payloads.workflows import RerunIn, WorkflowIn, WorkflowListQuery
from api.requests import parse_body, parse_query
from app.errors import Invalid
from app.workflows.asked import NewStep, NewWorkflow

STEP = {"key": "a", "task_type": "echo", "payload": {}}
FLOW = {"name": "nightly", "tasks": [STEP]}


def accepted(body: dict[str, Any]) -> NewWorkflow:
    flow = parse_body(WorkflowIn, json.dumps(body).encode())
    assert isinstance(flow, WorkflowIn)
    return flow.to_new_workflow()


def locs(body: dict[str, Any], model: type[BaseModel] = WorkflowIn) -> list[tuple[str | int, ...]]:
    with pytest.raises(Invalid) as caught:
        parse_body(model, json.dumps(body).encode())
    return [problem.loc for problem in caught.value.problems]


def test_a_workflow_needs_only_a_name_and_tasks() -> None:
    assert accepted(FLOW) == NewWorkflow(
        name="nightly", tasks=[NewStep(key="a", task_type="echo", payload={}, depends_on=[])], document=FLOW
    )


def test_everything_that_can_be_said_arrives() -> None:
    step = STEP | {
        "key": "b", "depends_on": ["a"], "when": {"eq": [{"$ref": "input.n"}, 1]}, "on_failure": "continue",
        "map": {"$ref": "tasks.a.result.items"}, "retry": {"delay_s": 5, "max_delay_s": 60}, "description": "d",
        "priority": "high", "assigned_to": "scout", "max_attempts": 3, "delay_s": 1.5,
        "deadline": "2100-01-01T02:00:00+02:00", "labels": {"k": "v"},
    }  # fmt: skip
    body = FLOW | {
        "description": "about", "input": {"n": 1}, "labels": {"team": "x"}, "session_id": "s", "max_running": 10_000,
        "deadline": "2100-01-02T00:00:00Z", "tasks": [STEP, step],
    }  # fmt: skip
    new = accepted(body)
    assert (new.description, new.input, new.labels, new.session_id, new.max_running, new.deadline) == (
        "about", {"n": 1}, {"team": "x"}, "s", 10_000, datetime(2100, 1, 2, tzinfo=UTC),
    )  # fmt: skip
    assert new.tasks[1] == NewStep(
        key="b", task_type="echo", payload={}, depends_on=["a"], when={"eq": [{"$ref": "input.n"}, 1]},
        on_failure="continue", map={"$ref": "tasks.a.result.items"},
        retry={"delay_s": 5, "factor": 2, "max_delay_s": 60}, description="d", priority="high", assigned_to="scout",
        max_attempts=3, delay_s=1.5, deadline=datetime(2100, 1, 1, tzinfo=UTC), labels={"k": "v"},
    )  # fmt: skip


def test_the_document_is_what_was_posted_without_its_input_and_can_be_posted_again() -> None:
    step = STEP | {
        "deadline": "2100-01-01T02:00:00+02:00",
        "retry": {"factor": 3},
        "when": False,
        "map": [1, {"a": []}],
    }
    body = FLOW | {"tasks": [step], "input": {"n": 1}, "max_running": 3}
    document = accepted(body).document
    assert document == FLOW | {"tasks": [step | {"deadline": "2100-01-01T00:00:00Z"}], "max_running": 3}
    assert accepted(document).document == document


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", ""), ("name", "x" * 256), ("name", 3), ("description", "x" * 10_001), ("input", []), ("input", None),
        ("input", {"text": "x" * 2**20}), ("labels", {"a:b": ""}), ("session_id", ""), ("deadline", "2030-01-01"),
        ("max_running", 0), ("max_running", 10_001), ("max_running", 1.5), ("tasks", []), ("tasks", {}),
        ("tasks", [STEP] * 10_001), ("id", "x"), ("owner", "x"), ("document", {}),
    ],
    ids=lambda value: str(value)[:20],
)  # fmt: skip
def test_a_workflow_is_refused_for(field: str, value: Any) -> None:
    assert {loc[0] for loc in locs(FLOW | {field: value})} == {field}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("key", ""), ("key", "x" * 201), ("key", "a b"), ("key", "a\n"), ("key", "é"), ("depends_on", "a"),
        ("depends_on", [1]), ("depends_on", ["a"] * 10_001), ("when", "yes"), ("when", 1), ("when", None), ("when", []),
        ("on_failure", "retry"), ("map", "abc"), ("map", None), ("map", [0] * 1001), ("retry", 3),
        ("retry", {"tries": 3}),
        ("retry", {"delay_s": -1}), ("retry", {"delay_s": 3601}), ("retry", {"factor": 0.5}), ("retry", {"factor": 11}),
        ("retry", {"max_delay_s": 86_401}), ("retry", {"delay_s": "1"}), ("dependencies", []), ("session_id", "s"),
        ("max_attempts", 101), ("priority", "urgent"), ("payload", []), ("task_type", ""),
    ],
    ids=lambda value: str(value)[:20],
)  # fmt: skip
def test_a_task_of_a_workflow_is_refused_for(field: str, value: Any) -> None:
    assert {loc[:3] for loc in locs(FLOW | {"tasks": [STEP, STEP | {field: value}]})} == {("tasks", 1, field)}


def test_input_is_measured_as_compact_json() -> None:
    assert accepted(FLOW | {"input": {"é": "x" * (2**20 - 9)}})
    assert locs(FLOW | {"input": {"é": "x" * (2**20 - 8)}}) == [("input",)]
    assert locs({"input": {"é": "x" * 2**20}}, RerunIn) == [("input",)]


def test_a_rerun_keeps_its_input_unless_another_is_given() -> None:
    assert parse_body(RerunIn, b"") == RerunIn(input=None)
    assert parse_body(RerunIn, b'{"input":{}}') == RerunIn(input={})
    assert locs({"inputs": {}}, RerunIn) == [("inputs",)]


def test_a_single_task_has_a_retry_policy_too() -> None:
    body = {"task_type": "echo", "payload": {}, "retry": {"delay_s": 0.5, "factor": 1}}
    task = parse_body(TaskIn, json.dumps(body).encode())
    assert isinstance(task, TaskIn)
    assert task.to_new_task().retry == {"delay_s": 0.5, "factor": 1, "max_delay_s": 300}
    assert locs(body | {"retry": {"delay_s": 3601}}, TaskIn) == [("retry", "delay_s")]


@pytest.mark.parametrize("given", [{"status": "queued"}, {"label": "x"}, {"name": ""}, {"q": "x"}, {"limit": "1001"}])
def test_queries_are_refused_by_name(given: dict[str, str]) -> None:
    with pytest.raises(Invalid) as caught:
        parse_query(WorkflowListQuery, MultiDict(given))
    assert [problem.loc for problem in caught.value.problems] == [(next(iter(given)),)]
