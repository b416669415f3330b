"""Filters: what is refused, and that nothing of a filter is in the SQL."""

from __future__ import annotations

import re
from typing import Any

import pytest

from app.errors import Invalid
from app.memory.filters import MAX_CONDITIONS, MAX_LISTED, compile_filter


def nested(levels: int, inner: Any) -> Any:
    for _ in range(levels):
        inner = {"a": inner}
    return inner


def in_lists(levels: int, inner: Any) -> Any:
    for _ in range(levels):
        inner = {"$and": [inner]}
    return inner


@pytest.mark.parametrize(
    ("filter", "loc"),
    [
        ([], ()),
        (None, ()),
        ({"$nor": [{"a": 1}]}, ("$nor",)),
        ({"$gt": 1}, ("$gt",)),
        ({"a": {"$regex": "x"}}, ("a", "$regex")),
        ({"a": {"$gt": 1, "b": 2}}, ("a", "b")),
        ({"a": {"b": {"$foo": 1}}}, ("a", "b", "$foo")),
        ({"a": {"$gt": True}}, ("a", "$gt")),
        ({"a": {"$lt": None}}, ("a", "$lt")),
        ({"a": {"$gte": [1]}}, ("a", "$gte")),
        ({"a": {"$in": 1}}, ("a", "$in")),
        ({"a": {"$in": [1, {}]}}, ("a", "$in", 1)),
        ({"a": {"$nin": ["x", [1]]}}, ("a", "$nin", 1)),
        ({"a": {"$exists": 1}}, ("a", "$exists")),
        ({"a": {"$not": 1}}, ("a", "$not")),
        ({"a": {"$not": {"b": {"$gt": 1}}}}, ("a", "$not")),
        ({"a": {"$and": [{"b": 1}]}}, ("a", "$and")),
        ({"a": {"b": {"$gt": 1}, "$or": []}}, ("a", "b")),
        ({"$and": []}, ("$and",)),
        ({"$or": {"a": 1}}, ("$or",)),
        ({"$or": [{"a": 1}, 2]}, ("$or", 1)),
        ({"$not": [{"a": 1}]}, ("$not",)),
        ({"": 1}, ("",)),
        ({"k" * 256: 1}, ("k" * 256,)),
        ({"a": "\0"}, ("a",)),
        ({"a": {"$in": ["\ud800"]}}, ("a", "$in", 0)),
        ({"a": {"$gt": float("nan")}}, ("a", "$gt")),
        ({"a": nested(9, 1)}, ("a",)),
        ({"a": [[[[[[[[[1]]]]]]]]]}, ("a",)),
        (in_lists(8, {"a": 1}), ("$and", 0) * 8),
        (nested(9, {"$gt": 1}), ("a",) * 8),
        ({"a": nested(200, 1)}, ()),
    ],
)
def test_what_is_wrong_is_told_with_its_place(filter: Any, loc: tuple[str | int, ...]) -> None:
    with pytest.raises(Invalid) as caught:
        compile_filter(filter)
    assert [problem.loc for problem in caught.value.problems] == [("filter", *loc)]


@pytest.mark.parametrize("filter", [in_lists(7, {"a": 1}), nested(8, {"$gt": 1}), {"a": nested(8, 1)}])
def test_up_to_the_bound_of_depth_filters_are_accepted(filter: Any) -> None:
    compile_filter(filter)


def test_conditions_and_listed_values_are_bounded() -> None:
    compile_filter({"$or": [{"a": at} for at in range(MAX_CONDITIONS)]})
    with pytest.raises(Invalid, match="not acceptable"):
        compile_filter({"$or": [{"a": at} for at in range(MAX_CONDITIONS + 1)]})
    compile_filter({"a": {"$in": list(range(MAX_LISTED))}})
    with pytest.raises(Invalid, match="not acceptable"):
        compile_filter({"a": {"$in": list(range(MAX_LISTED))}, "b": {"$nin": [1]}})


def test_an_empty_filter_holds_for_all() -> None:
    assert compile_filter({}) == ("true", {})


def test_nothing_of_a_filter_is_in_the_sql() -> None:
    evil = "x' OR 1=1 --:y %s"
    operators = [{f"${op}": evil} for op in ("eq", "ne", "gt", "gte", "lt", "lte")]
    values = [evil, [evil], {evil: evil}, {"$in": [evil]}, {"$nin": [evil]}, {evil: {"$gt": evil}}, *operators]
    sql, params = compile_filter({"$or": [{evil: value} for value in values]}, column="c.details")
    assert "OR 1" not in sql
    assert set(re.findall(r":(\w+)", sql)) == params.keys()
    assert all(name.startswith("f_") for name in params)
    assert "m.metadata" not in sql
