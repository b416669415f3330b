"""Conditions: how they are written, and when they hold."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.workflows import conditions
from app.workflows.conditions import MAX_TERMS, holds, problems_of, task_keys
from app.workflows.refs import MAX_DEPTH, Scope, TaskView, Unresolved

INPUT = {"n": 1, "text": "abc", "list": [1, "a", {"k": [True]}], "null": None, "zero": 0.0, "json": "[1]"}
SCOPE = Scope(input=INPUT, tasks={"t": TaskView("failed", None)}, workflow={})
MISSING = {"$ref": "input.gone"}

_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from([0.0, 1.0, 2.5]) | st.text(max_size=2),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("ab"), inner, max_size=2),
    max_leaves=6,
)
_OPERATORS = st.sampled_from([*conditions._OPERATORS, "$ref", "$literal", "default"])
#: What looks like conditions, and is one now and then.
ODD = st.recursive(
    _JSON | st.sampled_from([MISSING, {"$ref": "input.list"}, {"$ref": "input.text"}]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_OPERATORS, inner, min_size=1, max_size=2),
    max_leaves=12,
)


def ref(path: str, **siblings: Any) -> dict[str, Any]:
    return {"$ref": path, **siblings}


@given(ODD | st.dictionaries(_OPERATORS, ODD, min_size=1, max_size=1))
def test_whatever_is_posted_holds_or_does_not_or_is_unresolved(condition: Any) -> None:
    before = copy.deepcopy(condition)
    problems = problems_of(condition)
    task_keys(condition)
    try:
        assert holds(condition, SCOPE) in (True, False)
    except Unresolved:
        pass
    else:
        # What needs no look is not looked at: behind the first of `all` and `any`, and in defaults.
        assert not problems or any({"all", "any", "default"} & set(problem.loc) for problem in problems)
    assert condition == before


def plainly_same(a: Any, b: Any) -> bool:
    """Equality of JSON, as one would write it down."""
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(plainly_same, a, b))
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(plainly_same(a[key], b[key]) for key in a)
    return isinstance(a, bool) == isinstance(b, bool) and a == b


@given(_JSON, _JSON)
def test_equality_is_that_of_json(a: Any, b: Any) -> None:
    assert holds({"eq": [a, b]}, SCOPE) is plainly_same(a, b)
    assert holds({"ne": [a, b]}, SCOPE) is not plainly_same(a, b)
    assert holds({"eq": [a, copy.deepcopy(a)]}, SCOPE)
    assert holds({"in": [a, [b, a]]}, SCOPE)
    assert holds({"contains": [[b], a]}, SCOPE) is plainly_same(a, b)


@given(st.integers() | st.floats(allow_nan=False), st.integers() | st.floats(allow_nan=False))
def test_numbers_are_ordered(a: float, b: float) -> None:
    assert holds({"lt": [a, b]}, SCOPE) is (a < b) is not holds({"ge": [a, b]}, SCOPE)
    assert holds({"gt": [a, b]}, SCOPE) is (a > b) is not holds({"le": [a, b]}, SCOPE)


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        (True, True),
        (False, False),
        *((ref(f"input.{name}"), name in ("n", "text", "list", "json")) for name in INPUT),
        *((ref("input.gone", default=value), False) for value in (False, None, 0, 0.0, "", [], {})),
        *((ref("input.gone", default=value), True) for value in (True, -1, "false", [0], {"a": None})),
        ({"eq": [1, True]}, False),
        ({"eq": [0, False]}, False),
        ({"eq": [1, 1.0]}, True),
        ({"eq": [1, "1"]}, False),
        ({"eq": [[1], [True]]}, False),
        ({"eq": [{"k": [True]}, ref("input.list[2]")]}, True),
        ({"eq": [ref("tasks.t.status"), "failed"]}, True),
        ({"eq": [{"$literal": {"$ref": 1}}, {"$literal": {"$ref": 1}}]}, True),
        ({"ne": [None, ref("input.null")]}, False),
        ({"lt": ["B", "a"]}, True),
        ({"le": [1, 1.0]}, True),
        ({"gt": [ref("input.n"), 0]}, True),
        ({"in": [True, [1]]}, False),
        ({"in": ["a", ref("input.list")]}, True),
        ({"in": [1, [ref("input.n")]]}, True),
        ({"contains": ["abc", ref("input.text")]}, True),
        ({"contains": ["abc", "ac"]}, False),
        ({"contains": [{"k": None}, "k"]}, True),
        ({"contains": [{"k": None}, "z"]}, False),
        ({"contains": [[], None]}, False),
        ({"contains": [[True, 1], 1]}, True),
        ({"contains": [[[True]], [1]]}, False),
        ({"exists": ref("input.null")}, True),
        ({"exists": MISSING}, False),
        ({"exists": ref("tasks.t.result")}, False),
        ({"exists": ref("input.json", decode="json", select="[0]")}, True),
        ({"exists": ref("input.json", decode="json", select="[1]")}, False),
        ({"all": []}, True),
        ({"any": []}, False),
        ({"all": [True, ref("input.n")]}, True),
        ({"all": [{"exists": MISSING}, MISSING]}, False),
        ({"any": [True, MISSING]}, True),
        ({"not": {"not": {"any": [False, {"eq": [1, 1]}]}}}, True),
    ],
)
def test_a_condition_holds_as_written(condition: Any, expected: bool) -> None:
    assert problems_of(condition) == []
    assert holds(condition, SCOPE) is expected


@pytest.mark.parametrize(
    "condition",
    [
        MISSING,
        {"not": MISSING},
        {"any": [False, MISSING]},
        {"eq": [MISSING, None]},
        {"lt": [ref("input.n"), "2"]},
        {"lt": [1, ref("input.null")]},
        {"ge": [ref("input.list"), 1]},
        {"in": ["a", ref("input.text")]},
        {"contains": [ref("input.n"), 1]},
        {"contains": [ref("input.text"), 1]},
        {"contains": [{"1": 1}, 1]},
        {"exists": ref("input.n", decode="json")},
    ],
)
def test_what_cannot_be_decided_is_unresolved(condition: Any) -> None:
    assert problems_of(condition) == []
    with pytest.raises(Unresolved):
        holds(condition, SCOPE)


@pytest.mark.parametrize(
    ("condition", "loc"),
    [
        *((value, ()) for value in (None, 0, 1, "", "true", [], [True], {}, {"x": 1}, {"eq": [1, 1], "ne": [1, 2]})),
        ({"$literal": True}, ()),
        ({"eq": 1}, ("eq",)),
        ({"eq": [1]}, ("eq",)),
        ({"eq": [1, 2, 3]}, ("eq",)),
        ({"lt": [1, None]}, ("lt", 1)),
        ({"gt": [True, 1]}, ("gt", 0)),
        ({"in": ["a", "abc"]}, ("in", 1)),
        ({"contains": [3, 3]}, ("contains", 0)),
        ({"eq": [1, {"a": {"$x": 1}}]}, ("eq", 1, "a", "$x")),
        ({"exists": True}, ("exists",)),
        ({"exists": {"$literal": 1}}, ("exists",)),
        ({"exists": ref("input.a", default=1)}, ("exists", "default")),
        ({"exists": ref("input.a", encode="json")}, ("exists", "encode")),
        ({"exists": ref("inputs")}, ("exists", "$ref")),
        ({"all": True}, ("all",)),
        ({"any": {"eq": [1, 1]}}, ("any",)),
        ({"not": [True]}, ("not",)),
        ({"all": [True, {"not": ref("item")}]}, ("all", 1, "not", "$ref")),
    ],
)
def test_what_is_written_wrong_is_told_with_its_place(condition: Any, loc: tuple[str | int, ...]) -> None:
    assert [problem.loc for problem in problems_of(condition)] == [loc]
    with pytest.raises(Unresolved):
        holds(condition, SCOPE)


def test_an_item_can_be_asked_for_where_there_is_one() -> None:
    condition = {"eq": [ref("item"), ref("index")]}
    assert len(problems_of(condition)) == 2
    assert problems_of(condition, mapped=True) == []
    assert holds(condition, Scope(input={}, tasks={}, workflow={}, item=3, index=3))


def test_the_tasks_that_are_named_are_found_in_every_operand() -> None:
    terms = [{"exists": ref("tasks.a.result")}, {"not": ref("tasks.b.status")}, {"in": [1, [ref("tasks.c.result")]]}]
    assert task_keys({"any": terms}) == {"a", "b", "c"}


def test_conditions_nest_so_deep_and_no_recursion_ends_them() -> None:
    def nested(depth: int) -> Any:
        condition: Any = True
        for _ in range(depth):
            condition = {"not": condition}
        return condition

    assert problems_of(nested(MAX_DEPTH)) == []
    assert holds(nested(MAX_DEPTH), SCOPE)
    for depth in (MAX_DEPTH + 1, 100_000):
        (problem,) = problems_of(nested(depth))
        assert "nested deeper" in problem.msg
        with pytest.raises(Unresolved, match="nested deeper"):
            holds(nested(depth), SCOPE)


def test_a_condition_has_a_bound_on_its_terms() -> None:
    assert problems_of({"all": [True] * (MAX_TERMS - 1)}) == []
    (problem,) = problems_of({"all": [True] * MAX_TERMS})
    assert str(MAX_TERMS) in problem.msg


def test_deep_values_are_compared_without_recursion() -> None:
    def deep(core: Any) -> Any:
        for _ in range(600):
            core = [core]
        return core

    scope = Scope(input={"a": deep(1), "b": deep(1), "c": deep(True)}, tasks={}, workflow={})
    assert holds({"eq": [ref("input.a"), ref("input.b")]}, scope)
    assert holds({"ne": [ref("input.a"), ref("input.c")]}, scope)
