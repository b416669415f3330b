"""References: how they are written, and what takes their place."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.workflows import refs
from app.workflows.paths import MAX_PATH
from app.workflows.refs import Scope, TaskView, Unresolved, has_refs, problems_of, resolve, task_keys

SCOPE = Scope(
    input={"a": {"b": [10, {"c": None}]}, "0": "zero", "any text.": 1, "text": "x", "é": 2, "json": '{"k": [1, 2]}'},
    tasks={
        "one": TaskView("succeeded", {"stdout": "1\r\n\n3\n", "n": 5}),
        "bad": TaskView("failed", None),
        "null": TaskView("succeeded", None),
    },
    workflow={"id": "w1", "name": "nightly"},
    item={"x": "y"},
    index=0,
)

_SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()


def values(keys: st.SearchStrategy[str]) -> st.SearchStrategy[Any]:
    return st.recursive(_SCALARS, lambda inner: st.lists(inner) | st.dictionaries(keys, inner), max_leaves=20)


PLAIN = values(st.text().filter(lambda key: not key.startswith("$")))
_WORDS = st.sampled_from(["$ref", "$literal", "default", "decode", "select", "encode", "$x", "a"])
_PATHS = st.sampled_from(
    [
        "input",
        "input.a.b[1].c",
        "input.a.z",
        "tasks.one.result",
        "tasks.x.result",
        "item",
        "index",
        "[",
        "json",
        "lines",
    ]
)
#: What looks like references, and seldom is one.
ODD = st.recursive(
    _SCALARS | _PATHS,
    lambda inner: st.lists(inner) | st.dictionaries(_WORDS, inner | _PATHS, max_size=4),
    max_leaves=20,
)


def ref(path: str, **siblings: Any) -> dict[str, Any]:
    return {"$ref": path, **siblings}


@given(PLAIN)
def test_a_value_without_references_stays_as_it_is(value: Any) -> None:
    assert not has_refs(value)
    assert resolve(value, SCOPE) == value
    assert problems_of(value, mapped=False) == []
    assert task_keys(value) == set()


@given(values(st.text() | _WORDS))
def test_what_is_literal_arrives_untouched(value: Any) -> None:
    literal = {"in": [{"$literal": value}]}
    assert has_refs(literal)
    assert problems_of(literal, mapped=False) == []
    assert task_keys(literal) == set()
    assert resolve(literal, SCOPE) == {"in": [value]}


@given(ODD)
def test_whatever_is_posted_resolves_or_is_unresolved(value: Any) -> None:
    before = copy.deepcopy(value)
    problems = problems_of(value, mapped=True)
    task_keys(value)
    try:
        resolve(value, SCOPE)
    except Unresolved:
        pass
    else:
        # A default that is not needed is not looked at.
        assert not problems or any("default" in problem.loc for problem in problems)
    assert value == before


@given(values(st.text()))
def test_what_a_reference_brings_is_data(value: Any) -> None:
    scope = Scope(input={"v": {"$ref": "input", "v": value}}, tasks={}, workflow={})
    assert resolve(ref("input.v"), scope) == {"$ref": "input", "v": value}
    assert resolve(ref("input.v.v"), scope) == value


@given(values(st.text()))
def test_what_is_encoded_decodes_to_the_same(value: Any) -> None:
    text = resolve(ref("input.v", encode="json"), Scope(input={"v": value}, tasks={}, workflow={}))
    assert isinstance(text, str)
    if "\\u0000" not in text:  # which decoding refuses, as it could not be stored
        assert resolve(ref("input.v", decode="json"), Scope(input={"v": text}, tasks={}, workflow={})) == value


@pytest.mark.parametrize(
    ("reference", "value"),
    [
        (ref("input.a.b[0]"), 10),
        (ref("input.a.b.0"), 10),
        (ref("input.a.b[-2]"), 10),
        (ref("input.a.b[1].c"), None),
        (ref('input["any text."]'), 1),
        (ref(r'input["\u00e9"]'), 2),
        (ref("input.0"), "zero"),
        (ref("input.a.b"), [10, {"c": None}]),
        (ref("tasks.one.result.n"), 5),
        (ref('tasks["one"].result["n"]'), 5),
        (ref("tasks.bad.status"), "failed"),
        (ref("tasks.null.result"), None),
        (ref("tasks.null.result", default=1), None),
        (ref("tasks.bad.result", default=None), None),
        (ref("tasks.bad.result.n", default=[1]), [1]),
        (ref("tasks.gone.result", default={"a": ref("input.a.b.0")}), {"a": 10}),
        (ref("input.z", default={"$literal": ref("x")}), ref("x")),
        (ref("item.x"), "y"),
        (ref("index"), 0),
        (ref("workflow.id"), "w1"),
        (ref("workflow.name"), "nightly"),
        (ref("tasks.one.result.stdout", decode="lines"), ["1", "", "3"]),
        (ref("tasks.one.result.stdout", decode="lines", select="[-1]"), "3"),
        (ref("input.json", decode="json", select="k.1"), 2),
        (ref("input.json", decode="json", select="k[2]", default=0), 0),
        (ref("input.json", decode="json", encode="json"), '{"k":[1,2]}'),
        (ref("input.a", select="b[0]"), 10),
        (ref("input.text", encode="json"), '"x"'),
        (ref("input.z", default=["é"], encode="json"), '["é"]'),
    ],
)
def test_a_reference_brings_what_its_path_names(reference: Any, value: Any) -> None:
    assert problems_of(reference, mapped=True) == []
    assert resolve({"in": [reference]}, SCOPE) == {"in": [value]}


@pytest.mark.parametrize(
    ("text", "lines"), [("", []), ("\n", [""]), ("a", ["a"]), ("a\n\n", ["a", ""]), ("\fa", ["\fa"])]
)
def test_lines_end_at_line_feeds_alone(text: str, lines: list[str]) -> None:
    assert resolve(ref("input.v", decode="lines"), Scope(input={"v": text}, tasks={}, workflow={})) == lines


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        (ref("input.a.z.y"), 'input.a.z.y: input.a has no "z"'),
        (ref("input.a.b[2]"), "input.a.b[2]: input.a.b is a list of 2"),
        (ref("input.a.b[-3]"), "input.a.b[-3]: input.a.b is a list of 2"),
        (ref("input.a.b.c"), "input.a.b.c: input.a.b is a list"),
        (ref("input.a[0]"), "input.a[0]: input.a is an object"),
        (ref("input.a.b[1].c.d"), "input.a.b[1].c.d: input.a.b[1].c is null"),
        (ref("input.text.x"), "input.text.x: input.text is a text"),
        (ref("tasks.bad.result.n"), "tasks.bad.result.n: bad is failed and has no result"),
        (ref("tasks.gone.status"), "tasks.gone.status: there is no task gone before this one"),
        (ref("input.json", decode="json", select="z"), 'input.json, select z: the value has no "z"'),
        (ref("input.a", decode="json", default=1), "input.a: only a text is decoded, this is an object"),
        (ref("input.text", decode="json", default=1), "input.text: the text is not JSON: Expecting value"),
    ],
)
def test_a_reference_that_leads_nowhere_says_how_far_it_leads(reference: Any, message: str) -> None:
    with pytest.raises(Unresolved) as caught:
        resolve({"a": reference}, SCOPE)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize("path", ["item", "item.x", "index"])
def test_there_is_an_item_only_under_map(path: str) -> None:
    scope = Scope(input={}, tasks={}, workflow={})
    (problem,) = problems_of({"a": ref(path)}, mapped=False)
    assert problem.loc == ("a", "$ref")
    with pytest.raises(Unresolved, match="here"):
        resolve(ref(path), scope)
    assert problems_of(ref(path), mapped=True) == []
    assert resolve(ref("item"), Scope(input={}, tasks={}, workflow={}, item=None)) is None


@pytest.mark.parametrize(
    ("value", "loc"),
    [
        ({"$Ref": "input"}, ("$Ref",)),
        ({"a": [{"$schema": 1, "b": 2}]}, ("a", 0, "$schema")),
        ({"$literal": 1, "a": 2}, ()),
        ({"$literal": 1, "$ref": "input"}, ()),
        (ref("input", other=1), ("other",)),
        (ref("input", decode="yaml"), ("decode",)),
        (ref("input", decode=["json"]), ("decode",)),
        (ref("input", decode=None), ("decode",)),
        (ref("input", encode="lines"), ("encode",)),
        (ref("input", select=1), ("select",)),
        (ref("input", select=""), ("select",)),
        (ref("input", select=".a"), ("select",)),
        (ref("input", default={"a": ref("x")}), ("default", "a", "$ref")),
        *(
            ({"$ref": path}, ("$ref",))
            for path in (
                1, None, "", "x", "tasks", "tasks.a", "tasks.a.error", "tasks.a.status.b", "tasks[0].result",
                "workflow", "workflow.owner", "workflow.id.x", "index.a", "Input", " input", "input ", "input.",
                "input..a", ".input", "[0]", "input[]", "input[01]", "input[1", "input['a']", 'input["a]',
                r'input["\x"]', "input.é", "input[9999999999]", "input[*]", "$.input", "input." + "a" * MAX_PATH,
            )
        ),
    ],
)  # fmt: skip
def test_what_is_written_wrong_is_told_with_its_place(value: Any, loc: tuple[str | int, ...]) -> None:
    problems = problems_of(value, mapped=True)
    assert [problem.loc for problem in problems] == [loc]
    if "default" not in loc:
        with pytest.raises(Unresolved):
            resolve(value, SCOPE)


def test_every_problem_is_told_in_the_order_of_the_document() -> None:
    value = {"z": ref("x", select=1), "a": [ref("y"), {"$b": 1, "$c": 2}]}
    found = [problem.loc for problem in problems_of(value, mapped=False)]
    assert found == [("z", "$ref"), ("z", "select"), ("a", 0, "$ref"), ("a", 1, "$b"), ("a", 1, "$c")]


def test_the_tasks_that_are_named_are_found_wherever_they_are() -> None:
    value = [
        ref("tasks.a.result"),
        {"x": ref('tasks["b-1"].status')},
        ref("input.x", default=[ref("tasks.c.result.tasks.no")]),
        {"$literal": ref("tasks.no.result")},
        ref("tasks.no"),
    ]
    assert task_keys(value) == {"a", "b-1", "c"}


def nested(depth: int, core: Any, *, default: bool = False) -> Any:
    for _ in range(depth):
        core = ref("input.z", default=core) if default else [core]
    return core


@pytest.mark.parametrize("default", [False, True])
def test_nesting_has_a_bound_and_is_no_recursion(default: bool) -> None:
    fitting = nested(refs.MAX_DEPTH, 1, default=default)
    assert problems_of(fitting, mapped=False) == []
    assert resolve(fitting, SCOPE) == (1 if default else fitting)
    for deep in (nested(refs.MAX_DEPTH + 1, 1, default=default), nested(100_000, 1, default=default)):
        (problem,) = problems_of(deep, mapped=False)
        assert len(problem.loc) == refs.MAX_DEPTH
        assert has_refs(deep) is default
        with pytest.raises(Unresolved, match="nested deeper"):
            resolve(deep, SCOPE)


@pytest.mark.parametrize("text", ["[" * 100_000, "NaN", "1e999", "9" * 5000, '"\\u0000"', '"\\ud800"', "", "{} {}"])
def test_a_text_is_decoded_only_to_what_can_be_kept(text: str) -> None:
    scope = Scope(input={"v": text}, tasks={}, workflow={})
    with pytest.raises(Unresolved, match=r"^input\.v: "):
        resolve(ref("input.v", decode="json"), scope)


def test_a_value_that_nests_too_deep_is_no_crash() -> None:
    with pytest.raises(Unresolved, match="too deep"):
        resolve(ref("input.v"), Scope(input={"v": nested(100_000, 1)}, tasks={}, workflow={}))


@pytest.mark.parametrize("encode", [{}, {"encode": "json"}])
def test_a_small_payload_cannot_ask_for_a_large_value_any_number_of_times(encode: dict[str, str]) -> None:
    scope = Scope(input={"v": "x" * (1 << 20)}, tasks={}, workflow={})
    assert len(resolve([ref("input.v", **encode)] * 15, scope)) == 15
    with pytest.raises(Unresolved, match="16 MiB"):
        resolve([ref("input.v", **encode)] * 17, scope)


def test_a_text_that_many_references_look_into_is_decoded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    decoded = []
    read = json.loads
    monkeypatch.setattr(json, "loads", lambda text, **how: decoded.append(text) or read(text, **how))
    assert resolve([ref("input.json", decode="json", select="k[0]")] * 100, replace(SCOPE, decoded={})) == [1] * 100
    assert len(decoded) == 1
