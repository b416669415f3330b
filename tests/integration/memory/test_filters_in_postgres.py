"""Filters on metadata in Postgres: they hold for what a plain reading of them holds for."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from app.db import transaction
from app.memory.filters import compile_filter

pytestmark = pytest.mark.usefixtures("clawq")

DOCUMENTS: list[Any] = [
    None,
    {},
    {"kind": "note", "priority": 3, "tags": ["red", "blue"], "done": True, "at": "2026-01-02T00:00:00Z"},
    {"kind": "Note", "priority": 10, "tags": [], "done": False, "at": "2026-10-01T00:00:00Z"},
    {"kind": None, "priority": "7", "tags": "red", "place": {"city": "Oslo", "floor": 2}},
    {"priority": -1.5, "place": {"city": "Bergen"}, "tags": [["red"], {"a": 1}]},
]


def found(filter: dict[str, Any]) -> list[int]:
    condition, params = compile_filter(filter, "m.metadata")
    asked = text(
        "SELECT at - 1 FROM unnest(CAST(:documents AS text[])) WITH ORDINALITY AS d (document, at), "
        f"LATERAL (SELECT CAST(document AS jsonb) AS metadata) m WHERE {condition} ORDER BY at"
    )
    documents = [None if document is None else json.dumps(document) for document in DOCUMENTS]
    with transaction() as db:
        return list(db.execute(asked, params | {"documents": documents}).scalars())


@pytest.mark.parametrize(
    ("filter", "places"),
    [
        ({}, [0, 1, 2, 3, 4, 5]),
        ({"kind": "note"}, [2]),
        ({"kind": None}, [4]),
        ({"priority": 3.0}, [2]),
        ({"priority": "3"}, []),
        ({"done": True}, [2]),
        ({"tags": "red"}, [2, 4]),
        ({"tags": ["red"]}, [2]),
        ({"tags": ["blue", "red"]}, [2]),
        ({"tags": {"$eq": ["red", "blue"]}}, [2]),
        ({"tags": {"$eq": ["blue", "red"]}}, []),
        ({"tags": {"$eq": []}}, [3]),
        ({"tags": {"$in": ["red", 1]}}, [2, 4]),
        ({"place": {"city": "Oslo"}}, [4]),
        ({"place": {}}, [4, 5]),
        ({"place": {"$eq": {"city": "Oslo"}}}, []),
        ({"place": {"city": {"$in": ["Oslo", "Bergen"]}, "floor": {"$gt": 1}}}, [4]),
        ({"kind": {"$ne": "note"}}, [0, 1, 3, 4, 5]),
        ({"kind": {"$nin": ["note", "Note"]}}, [0, 1, 4, 5]),
        ({"kind": {"$in": []}}, []),
        ({"kind": {"$nin": []}}, [0, 1, 2, 3, 4, 5]),
        ({"priority": {"$gt": 3}}, [3]),
        ({"priority": {"$gte": 3}}, [2, 3]),
        ({"priority": {"$lt": 3}}, [5]),
        ({"priority": {"$lte": 10, "$gt": -2}}, [2, 3, 5]),
        ({"priority": {"$gt": "3"}}, [4]),
        ({"kind": {"$lt": "a"}}, [3]),
        ({"at": {"$gte": "2026-05-01"}}, [3]),
        ({"kind": {"$exists": True}}, [2, 3, 4]),
        ({"kind": {"$exists": False}}, [0, 1, 5]),
        ({"priority": {"$not": {"$gt": 3}}}, [0, 1, 2, 4, 5]),
        ({"$not": {"priority": {"$gt": 3}}}, [0, 1, 2, 4, 5]),
        ({"$not": {}}, []),
        ({"$or": [{"kind": "Note"}, {"priority": 3}]}, [2, 3]),
        ({"$and": [{"kind": "note"}, {"priority": 10}]}, []),
        ({"$not": {"$or": [{"kind": "note"}, {"priority": {"$lt": 0}}]}}, [0, 1, 3, 4]),
        ({"kind": "note", "$or": [{"done": True}, {"done": False}]}, [2]),
        ({"priority": {"$lt": 10**30}}, [2, 3, 5]),
    ],
)
def test_what_a_filter_holds_for(filter: dict[str, Any], places: list[int]) -> None:
    assert found(filter) == places


_scalars = st.sampled_from([None, True, False, -1.5, 3, 3.0, 7, 10, "7", "note", "Note", "red", "Oslo", "2026-05-01"])
_orders = st.sampled_from(["$gt", "$gte", "$lt", "$lte"])
_operators = st.one_of(
    st.builds(lambda op, value: {op: value}, _orders, st.sampled_from([-2, 3, 7.5, "7", "a", "2026-05-01"])),
    st.builds(lambda op, value: {op: value}, st.sampled_from(["$eq", "$ne"]), _scalars),
    st.builds(lambda op, values: {op: values}, st.sampled_from(["$in", "$nin"]), st.lists(_scalars, max_size=3)),
    st.builds(lambda value: {"$exists": value}, st.booleans()),
)
_conditions = st.recursive(_operators, lambda inner: st.builds(lambda one: {"$not": one}, inner), max_leaves=2)
_fields = st.dictionaries(
    st.sampled_from(["kind", "priority", "tags", "done", "at", "none"]), st.one_of(_scalars, _conditions), max_size=2
)
filters = st.recursive(
    _fields,
    lambda inner: st.one_of(
        st.builds(
            lambda key, some: {key: some}, st.sampled_from(["$and", "$or"]), st.lists(inner, min_size=1, max_size=3)
        ),
        st.builds(lambda one: {"$not": one}, inner),
    ),
    max_leaves=6,
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(filters)
def test_any_filter_holds_for_what_its_plain_reading_holds_for(filter: dict[str, Any]) -> None:
    assert found(filter) == [at for at, document in enumerate(DOCUMENTS) if reads(filter, document or {})]


def reads(filter: dict[str, Any], document: dict[str, Any]) -> bool:
    """A plain reading of a filter without conditions on fields of fields."""
    return all(_entry(key, value, document) for key, value in filter.items())


def _entry(key: str, value: Any, document: dict[str, Any]) -> bool:
    match key:
        case "$and":
            return all(reads(one, document) for one in value)
        case "$or":
            return any(reads(one, document) for one in value)
        case "$not":
            return not reads(value, document)
    operators = value if isinstance(value, dict) else {"$eq": value}
    return all(_holds(operator, operand, key, document) for operator, operand in operators.items())


def _holds(operator: str, operand: Any, key: str, document: dict[str, Any]) -> bool:
    there = document.get(key, ...)
    match operator:
        case "$exists":
            return (there is not ...) is operand
        case "$not":
            return not all(_holds(inner, value, key, document) for inner, value in operand.items())
        case "$eq" | "$ne":
            return _is(there, operand) is (operator == "$eq")
        case "$in" | "$nin":
            return any(_is(there, one) for one in operand) is (operator == "$in")
    if isinstance(there, bool) or not isinstance(there, str if isinstance(operand, str) else int | float):
        return False
    return {"$gt": there > operand, "$gte": there >= operand, "$lt": there < operand, "$lte": there <= operand}[
        operator
    ]


def _is(there: Any, value: Any) -> bool:
    """Whether a value is a scalar, or a list that holds it; true is not 1."""
    several = there if isinstance(there, list) else [there]
    return any(one == value and isinstance(one, bool) is isinstance(value, bool) for one in several)
