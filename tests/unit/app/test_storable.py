"""Which JSON values Postgres can store."""

from __future__ import annotations

from typing import Any

import pytest

from app.errors import Invalid
from app.storable import check_storable


@pytest.mark.parametrize(
    "value", [None, True, 0, 10**400, 1.5, "", "é😀\n", [], {}, {"a": [{"b": "c"}]}, {"": None}, "\ufffe"]
)
def test_ordinary_json_is_storable(value: Any) -> None:
    check_storable(value)


@pytest.mark.parametrize(
    ("value", "loc"),
    [
        ("a\0", ()),
        ("\ud800", ()),
        ("\udc00x", ()),
        (float("nan"), ()),
        (float("-inf"), ()),
        ({"a": [1, {"b": "\0"}]}, ("a", 1, "b")),
        ({"a\0": 1}, ("(key)",)),
        ({"x": {"\ud800": 1}}, ("x", "(key)")),
    ],
)
def test_what_jsonb_cannot_hold_is_refused_with_its_place(value: Any, loc: tuple[str | int, ...]) -> None:
    with pytest.raises(Invalid) as caught:
        check_storable(value)
    assert [problem.loc for problem in caught.value.problems] == [loc]


def test_every_problem_is_told() -> None:
    with pytest.raises(Invalid) as caught:
        check_storable({"a": "\0", "b": [float("inf"), "\ud800"]})
    assert [problem.loc for problem in caught.value.problems] == [("a",), ("b", 0), ("b", 1)]
