"""Models of memories that HTTP alone has: what is accepted, what is refused and where."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import BaseModel
from werkzeug.datastructures import MultiDict

from api.payloads.memories import MemoryBatchIn, MemoryImportIn, MemoryListQuery, MemoryPatchIn
from api.requests import parse_body, parse_query
from app.errors import Invalid
from app.memory.payloads import SearchPayload, StorePayload
from app.memory.wanted import Wanted

TEA = {"memory_type": "semantic", "content": "Tea."}


def locs(model: type[BaseModel], body: dict[str, Any]) -> list[tuple[str | int, ...]]:
    with pytest.raises(Invalid) as caught:
        parse_body(model, json.dumps(body).encode())
    return [problem.loc for problem in caught.value.problems]


def patch(**body: Any) -> MemoryPatchIn:
    parsed = parse_body(MemoryPatchIn, json.dumps(body).encode())
    assert isinstance(parsed, MemoryPatchIn)
    return parsed


def test_a_change_is_what_is_given_and_nothing_else() -> None:
    assert patch().changes == {}
    assert patch(version=3).changes == {}
    given = {"content": "x", "metadata": None, "importance": 0, "memory_type": "working", "expires_at": None,
             "status": "active"}  # fmt: skip
    assert patch(**given, version=3).changes == given


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("content", ""), ("content", None), ("importance", None), ("importance", 2), ("importance", "0.5"),
        ("memory_type", None), ("status", "merged"), ("status", None), ("version", 0), ("agent_id", "a"),
        ("user_id", "u"), ("id", "x"), ("replaced_by", None), ("metadata", []),
    ],
)  # fmt: skip
def test_a_change_is_refused_for(field: str, value: Any) -> None:
    assert locs(MemoryPatchIn, {field: value}) == [(field,)]


def test_over_http_nothing_is_converted() -> None:
    assert locs(StorePayload, TEA | {"importance": "0.5"}) == [("importance",)]
    assert locs(SearchPayload, {"query": "x", "limit": "5"}) == [("limit",)]
    assert locs(SearchPayload, {"query": "x", "explain": "yes"}) == [("explain",)]


@pytest.mark.parametrize("model", [MemoryBatchIn, MemoryImportIn])
def test_a_batch_is_bounded_and_each_fault_has_its_place(model: type[BaseModel]) -> None:
    assert locs(model, {"memories": []}) == [("memories",)]
    assert locs(model, {"memories": [TEA] * 1001}) == [("memories",)]
    assert locs(model, {"memories": [TEA, {"content": 1}]}) == [
        ("memories", 1, "memory_type"), ("memories", 1, "content"),
    ]  # fmt: skip
    parse_body(model, json.dumps({"memories": [TEA] * 1000}).encode())


def test_a_batch_says_once_what_is_done_about_near_duplicates() -> None:
    batch = parse_body(MemoryBatchIn, json.dumps({"memories": [TEA]}).encode())
    assert isinstance(batch, MemoryBatchIn)
    assert batch.on_near_duplicate == "ignore"
    assert locs(MemoryBatchIn, {"memories": [TEA | {"on_near_duplicate": "merge"}]}) == [
        ("memories", 0, "on_near_duplicate")
    ]


def test_lists_show_what_is_active_unless_told() -> None:
    query = parse_query(MemoryListQuery, MultiDict({"user_id": "u", "memory_type": "working"}))
    assert isinstance(query, MemoryListQuery)
    assert query.wanted("ada", status=query.status) == Wanted(owner="ada", user_id="u", memory_type="working")


@pytest.mark.parametrize(
    "given", [{"status": "gone"}, {"memory_type": "x"}, {"owner": "bob"}, {"limit": "1001"}, {"q": "x"}]
)
def test_queries_are_refused_by_name(given: dict[str, str]) -> None:
    with pytest.raises(Invalid) as caught:
        parse_query(MemoryListQuery, MultiDict(given))
    assert [problem.loc for problem in caught.value.problems] == [(next(iter(given)),)]
