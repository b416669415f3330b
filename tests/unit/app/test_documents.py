"""YAML is read as far as it says what JSON could say, by either parser in the same way."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app import documents
from app.documents import MAX_DEPTH, parse_yaml
from app.errors import Invalid

#: What JSON writes as it is and YAML reads as it is.
_PRINTABLE = st.text(st.characters(exclude_categories=["C", "Zl", "Zp"]) | st.sampled_from('\t\n\r"\\\0\b: #'))


def _in(texts: st.SearchStrategy[str]) -> st.SearchStrategy[Any]:
    """JSON with these texts."""
    numbers = st.integers(-(1 << 63), (1 << 63) - 1) | st.floats(allow_nan=False, allow_infinity=False)
    return st.recursive(
        st.none() | st.booleans() | numbers | texts,
        lambda inner: st.lists(inner) | st.dictionaries(texts, inner),
        max_leaves=20,
    )


@pytest.fixture(params=["SafeLoader", "CSafeLoader"], autouse=True)
def loader(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if not hasattr(yaml, request.param):
        pytest.skip("this PyYAML is without libyaml")
    monkeypatch.setattr(documents, "_LOADER", getattr(yaml, request.param))


# The loader is the same for every example.
either = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


@either
@given(_in(st.text()), st.booleans(), st.sampled_from([None, 2]))
def test_json_is_yaml_that_means_the_same(value: Any, escaped: bool, indent: int | None) -> None:
    text = json.dumps(value, ensure_ascii=escaped, indent=indent)
    assert parse_yaml(text) == value
    assert parse_yaml(text.encode()) == value


@either
@given(_in(_PRINTABLE))
def test_both_readers_understand_json_alike(value: Any) -> None:
    # The comment keeps the JSON reader out.
    read = parse_yaml("# a comment\n" + json.dumps(value, ensure_ascii=False))
    assert read == value
    assert json.dumps(read) == json.dumps(value), "of the same types"


@either
@given(st.text() | st.text(alphabet="ab01 \n\t:-?[]{},&*!|>'\"%@`#~<=.\\", max_size=40) | st.binary(max_size=20))
def test_whatever_is_posted_is_read_or_refused_with_its_place(text: str | bytes) -> None:
    refused = None
    try:
        json.dumps(parse_yaml(text), allow_nan=False)
    except Invalid as error:
        refused = error
    if refused:
        (problem,) = refused.problems
        assert re.match(r"line \d+, column \d+: .", problem.msg)
        assert problem.msg in refused.detail


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a: 1\nb: [x, 'y', \"z\"]\nc:\n  - d: e\n", {"a": 1, "b": ["x", "y", "z"], "c": [{"d": "e"}]}),
        ("--- a\n...\n", "a"),
        ("%YAML 1.2\n---\na: |\n  x\n  y\nb: >-\n  x\n  y\n", {"a": "x\ny\n", "b": "x y"}),
        ("# only\n---\n", None),
        ("\ufeffa: b", {"a": "b"}),
        ("[~, null, Null, NULL, '', 'null']", [None, None, None, None, "", "null"]),
        ("a:\nb: # nothing", {"a": None, "b": None}),
        ("[true, True, FALSE, 'true', tRUE]", [True, True, False, "true", "tRUE"]),
        ("[yes, no, on, off, y, N, NO]", ["yes", "no", "on", "off", "y", "N", "NO"]),
        ("[0, -0, +12, 012, 0o12, 0x1F, 1_000, 0b1, 1:30]", [0, 0, 12, 12, 10, 31, "1_000", "0b1", "1:30"]),
        ("[1.5, .5, 1., 1e3, -1.5E-1, 1.10, 1.2.3]", [1.5, 0.5, 1.0, 1000.0, -0.15, 1.1, "1.2.3"]),
        ("[2026-11-25, 2026-11-25T10:00:00Z, 12:30:45]", ["2026-11-25", "2026-11-25T10:00:00Z", "12:30:45"]),
        ("<<: {a: 1}\n=: 2", {"<<": {"a": 1}, "=": 2}),
        ("'1': a\n\"true\": b\n2026-11-25: c", {"1": "a", "true": "b", "2026-11-25": "c"}),
        ("[a&b, 'a', '&a', \"*a\", a!, '!a']", ["a&b", "a", "&a", "*a", "a!", "!a"]),
        ("[9223372036854775807, -9223372036854775808]", [(1 << 63) - 1, -(1 << 63)]),
        (r'a: "\U0001F600 é \u00e9 \x41"', {"a": "😀 é é A"}),
        ("a: {$ref: input.x, default: []}", {"a": {"$ref": "input.x", "default": []}}),
    ],
)
def test_the_core_schema_is_read(text: str, value: Any) -> None:
    read = parse_yaml(text)
    assert read == value
    assert json.dumps(read) == json.dumps(value), "of the same types"


@pytest.mark.parametrize(
    ("text", "place", "said"),
    [
        ("", (1, 1), "no document"),
        ("# a\n", (1, 1), "no document"),
        ("a: &x 1", (1, 4), "anchors"),
        ("a: 1\nb: *x", (2, 4), "anchors"),
        ("&x a: 1", (1, 1), "anchors"),
        ("- &x [1]", (1, 3), "anchors"),
        ("a: !!str 1", (1, 4), "tags"),
        ("a: !!python/object/apply:os.system [ls]", (1, 4), "tags"),
        ("a: ! 1", (1, 4), "tags"),
        ("- !!map {a: 1}", (1, 3), "tags"),
        ("%TAG ! tag:x,2000:\n---\n!a b", (1, 1), "tags"),
        ("# a\n%TAG !a! x\n" * 100_000, (2, 1), "tags"),
        ("a: 1\nb: 2\na: 3", (3, 1), "twice"),
        ('{"a": 1, "a": 2}', (1, 10), "twice"),
        ("{a: {b: 1, 'b': 1}}", (1, 12), "twice"),
        ("1: a", (1, 1), "key must be a text"),
        ("true: a", (1, 1), "key must be a text"),
        ("null: a", (1, 1), "key must be a text"),
        ("~: a", (1, 1), "key must be a text"),
        ("? [a]\n: b", (1, 3), "key must be a text"),
        ("? {a: 1}\n: b", (1, 3), "key must be a text"),
        ("a\n---\nb", (2, 1), "second document"),
        ("a: 9223372036854775808", (1, 4), "64 bits"),
        ("a: -9223372036854775809", (1, 4), "64 bits"),
        ("[0xFFFFFFFFFFFFFFFFF]", (1, 2), "64 bits"),
        ("[" + "9" * 5000 + "]", (1, 2), "64 bits"),
        ("[.inf]", (1, 2), "finite"),
        ("[-.INF]", (1, 2), "finite"),
        ("[.nan]", (1, 2), "finite"),
        ("[1e999]", (1, 2), "too large"),
        ("a: b: c", (1, 5), "mapping values"),
        ("a:\n\t- b", (2, 1), "cannot start any token"),
        ("a: 'é\x01'", (1, 6), "escape"),
        ("é: \ud800", (1, 4), "escape"),
        (b"a: 1\nb: \xff", (2, 4), "UTF-8"),
        ("a: 1".encode("utf-16"), (1, 1), "UTF-8"),
    ],
)
def test_what_json_could_not_say_is_refused_with_its_place(
    text: str | bytes, place: tuple[int, int], said: str
) -> None:
    with pytest.raises(Invalid) as caught:
        parse_yaml(text)
    (problem,) = caught.value.problems
    assert problem.msg.startswith(f"line {place[0]}, column {place[1]}: ")
    assert said in problem.msg


@pytest.mark.parametrize("text", [r'a: "\ud83d\ude00"', r'a: "\ud800"'])
def test_halves_of_a_character_are_refused_where_it_is_not_json(text: str) -> None:
    with pytest.raises(Invalid):
        parse_yaml(text)


def nested(style: str, depth: int) -> str:
    if style == "block":
        return "- " * depth + "x"
    if style == "json":
        return "[" * depth + "1" + "]" * depth
    return "{a: " * depth + "x" + "}" * depth


@pytest.mark.parametrize("style", ["block", "flow", "json"])
def test_nesting_has_a_bound_and_costs_nothing_beyond_it(style: str) -> None:
    assert parse_yaml(nested(style, MAX_DEPTH))
    for depth in (MAX_DEPTH + 1, 50_000):
        with pytest.raises(Invalid, match=f"nested deeper than {MAX_DEPTH}"):
            parse_yaml(nested(style, depth))


def test_a_billion_laughs_are_not_laughed() -> None:
    lines = ["a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 10)]
    with pytest.raises(Invalid, match="line 1, column 5: anchors"):
        parse_yaml("\n".join(lines))
