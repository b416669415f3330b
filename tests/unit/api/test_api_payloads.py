"""Models: what is accepted, what is refused and where the fault lies."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from pydantic import BaseModel
from werkzeug.datastructures import MultiDict
from werkzeug.exceptions import BadRequest

from api.payloads.common import WaitQuery
from api.payloads.group import AgentIn, AgentPatchIn
from api.payloads.keys import KeyIn
from api.payloads.tasks import AfterQuery, TaskBatchIn, TaskIn, TaskListQuery
from api.requests import parse_body, parse_query
from app.errors import Invalid
from app.moments import rfc3339

TASK = {"task_type": "echo", "payload": {}}
AGENT = {"name": "scout", "role": "finder", "goal": "Find it.", "agent_type": "researcher"}
KEY = {"name": "ci", "scopes": ["read"]}


def locs(model: type[BaseModel], body: dict[str, Any]) -> list[tuple[str | int, ...]]:
    with pytest.raises(Invalid) as caught:
        parse_body(model, json.dumps(body).encode())
    return [problem.loc for problem in caught.value.problems]


def test_a_task_needs_only_its_type_and_payload() -> None:
    task = parse_body(TaskIn, b'{"task_type":"echo","payload":{"a":[1,{"b":null}]}}')
    assert isinstance(task, TaskIn)
    new = task.to_new_task()
    assert (new.payload, new.priority, new.max_attempts, new.description) == ({"a": [1, {"b": None}]}, "normal", 1, "")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("description", "x" * 10_001),
        ("priority", "urgent"),
        ("priority", 1),
        ("max_attempts", 0),
        ("max_attempts", 101),
        ("max_attempts", "3"),
        ("max_attempts", True),
        ("max_attempts", 2.0),
        ("delay_s", -1),
        ("delay_s", 30 * 24 * 3600 + 1),
        ("delay_s", "5"),
        ("deadline", "2030-01-01T00:00:00"),
        ("deadline", "2030-01-01"),
        ("deadline", 1893456000),
        ("deadline", "1893456000"),
        ("deadline", "2030-13-01T00:00:00Z"),
        ("deadline", "0001-01-01T00:00:00+14:00"),
        ("deadline", "9999-12-31T23:59:59-12:00"),
        ("payload", []),
        ("payload", None),
        ("task_type", ""),
        ("task_type", "x" * 51),
        ("labels", {str(n): "" for n in range(51)}),
        ("labels", {"size": 3}),
        ("labels", {"a:b": "c"}),
        ("assigned_to", "x" * 256),
        ("session_id", ""),
        ("dependencies", "abc"),
        ("workflow_id", "sneaked in"),
        ("owner", "someone else"),
    ],
)
def test_a_task_is_refused_for(field: str, value: Any) -> None:
    assert {loc[0] for loc in locs(TaskIn, TASK | {field: value})} == {field}


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("2030-01-01T01:00:00+01:00", datetime(2030, 1, 1, tzinfo=UTC)),
        ("2030-01-01t00:00:00.123456z", datetime(2030, 1, 1, microsecond=123456, tzinfo=UTC)),
    ],
)
def test_deadlines_are_kept_in_utc(given: str, kept: datetime) -> None:
    task = parse_body(TaskIn, json.dumps(TASK | {"deadline": given}).encode())
    assert isinstance(task, TaskIn)
    assert task.deadline == kept


def test_a_batch_names_the_task_that_is_wrong() -> None:
    assert locs(TaskBatchIn, {"tasks": [TASK, TASK | {"max_attempts": 0}]}) == [("tasks", 1, "max_attempts")]


def test_a_batch_has_one_to_a_thousand_tasks() -> None:
    assert locs(TaskBatchIn, {"tasks": []}) == [("tasks",)]
    assert locs(TaskBatchIn, {"tasks": [TASK] * 1001}) == [("tasks",)]
    assert parse_body(TaskBatchIn, json.dumps({"tasks": [TASK] * 1000}).encode())


@pytest.mark.parametrize(
    "raw",
    [b"{", b"nonsense", b"{'a': 1}", b'{"a": NaN}', b'"\xff"', b"[" * 100_000, b'{"payload":"\\ud800"}', b"1" * 5000],
)
def test_what_is_not_json_cannot_be_read(raw: bytes) -> None:
    with pytest.raises(BadRequest):
        parse_body(TaskIn, raw)


@pytest.mark.parametrize("raw", [b"[]", b"null", b'"text"', b"3"])
def test_json_that_is_no_object_is_not_acceptable(raw: bytes) -> None:
    with pytest.raises(Invalid):
        parse_body(TaskIn, raw)


def test_text_that_postgres_cannot_hold_is_named() -> None:
    assert locs(TaskIn, TASK | {"payload": {"a": ["\0"]}}) == [("payload", "a", 0)]
    with pytest.raises(Invalid):
        parse_body(TaskIn, b'{"task_type":"echo","payload":{"a":1e999}}')


def test_an_empty_body_is_an_empty_object() -> None:
    assert parse_body(AgentPatchIn, b"") == AgentPatchIn()


@pytest.mark.parametrize("role", ["gateway", "coordinator", "execution", "memory"])
def test_agents_of_the_four_roles_are_not_made_by_hand(role: str) -> None:
    assert locs(AgentIn, AGENT | {"agent_type": role}) == [("agent_type",)]


@pytest.mark.parametrize(
    ("configuration", "loc"),
    [
        ({"max_runing": 3}, ("configuration", "max_runing")),
        ({"max_running": -1}, ("configuration", "max_running")),
        ({"max_running": 1.5}, ("configuration", "max_running")),
        ({"task_types": ["echo", "cobol"]}, ("configuration", "task_types")),
        ({"task_types": "echo"}, ("configuration", "task_types")),
        ({"sandbox": {"runtime": "a b"}}, ("configuration", "sandbox", "runtime")),
        ({"sandbox": {"images": {"python": "-v"}}}, ("configuration", "sandbox", "images", "python")),
        ({"sandbox": {"network": "egress"}}, ("configuration", "sandbox", "network")),
    ],
)
def test_a_policy_that_admission_would_not_understand_is_refused(
    configuration: dict[str, Any], loc: tuple[str, ...]
) -> None:
    assert locs(AgentIn, AGENT | {"configuration": configuration}) == [loc]


def test_what_an_agent_must_have_cannot_be_taken_away() -> None:
    for field in ("name", "role", "goal"):
        assert locs(AgentPatchIn, {field: None}) == [(field,)]
        assert locs(AgentPatchIn, {field: ""}) == [(field,)]
    assert locs(AgentPatchIn, {"agent_type": "execution"}) == [("agent_type",)]


@pytest.mark.parametrize("scopes", [[], ["root"], "admin", ["read"] * 4])
def test_keys_have_scopes_that_exist(scopes: Any) -> None:
    assert {loc[0] for loc in locs(KeyIn, KEY | {"scopes": scopes})} == {"scopes"}


def query_locs(model: type[BaseModel], **given: Any) -> list[tuple[str | int, ...]]:
    with pytest.raises(Invalid) as caught:
        parse_query(model, MultiDict(given))
    return [problem.loc for problem in caught.value.problems]


@pytest.mark.parametrize(
    ("model", "given"),
    [
        (TaskListQuery, {"status": "done"}),
        (TaskListQuery, {"limit": "0"}),
        (TaskListQuery, {"limit": "1001"}),
        (TaskListQuery, {"label": "colonless"}),
        (TaskListQuery, {"queue": "nowhere"}),
        (TaskListQuery, {"statuss": "failed"}),
        (TaskListQuery, {"q": "\0"}),
        (TaskListQuery, {"status": ["failed", "running"]}),
        (WaitQuery, {"wait": "-1"}),
        (WaitQuery, {"wait": "61"}),
        (WaitQuery, {"wait": "nan"}),
        (WaitQuery, {"wait": "soon"}),
        (AfterQuery, {"after": "-1"}),
        (AfterQuery, {"after": "99999999999"}),
    ],
)
def test_queries_are_refused_by_name(model: type[BaseModel], given: dict[str, Any]) -> None:
    assert query_locs(model, **given) == [(next(iter(given)),)]


def test_a_label_is_cut_at_its_first_colon() -> None:
    query = parse_query(TaskListQuery, MultiDict({"label": "url:http://x"}))
    assert isinstance(query, TaskListQuery)
    assert query.label_pair == ("url", "http://x")


def test_times_have_six_decimals_and_a_z() -> None:
    east = timezone(timedelta(hours=2))
    assert rfc3339(datetime(2030, 1, 2, 3, 4, 5, tzinfo=east)) == "2030-01-02T01:04:05.000000Z"
    assert rfc3339(datetime(2030, 1, 2, 3, 4, 5, 6, tzinfo=UTC)) == "2030-01-02T03:04:05.000006Z"
