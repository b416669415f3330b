"""YAML, as far as it says what JSON could say."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable
from typing import Any, NoReturn

import yaml

from app.errors import Invalid, Problem

#: How deep lists and mappings nest.
MAX_DEPTH = 64

#: libyaml where it is there: it reads the same, many times faster.
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_UNPRINTABLE = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
#: Refused before the parser sees it, which compares each with all before.
_TAG_DIRECTIVE = re.compile("(?:^|(?<=[\r\n\x85\u2028\u2029]))%TAG[ \t]")
_INTEGERS = range(-(1 << 63), 1 << 63)

_CONSTANTS = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_INTEGER = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")


def parse_yaml(text: str | bytes) -> Any:
    """The one document in `text`: the core schema of YAML 1.2, without anchors and tags.

    Raises:
        Invalid: it is not that; the detail and its problem name line and column.
    """
    if isinstance(text, bytes):
        text = _decoded(text)
    try:
        # JSON is YAML. Reading it as such is faster, and takes its \u escapes of two halves.
        value = json.loads(
            text, object_pairs_hook=_object, parse_int=_integer, parse_float=_float, parse_constant=_refuse
        )
        if not _nests_deeper(value, MAX_DEPTH):
            return value
    except (ValueError, RecursionError):
        pass  # Not JSON, or not to be had; the other reader says where and why.
    if bad := _UNPRINTABLE.search(text):
        raise _invalid(*_place(text, bad.start()), "a character that YAML does not allow; escape it in double quotes")
    if tag := _TAG_DIRECTIVE.search(text):
        raise _invalid(*_place(text, tag.start()), "tags (%TAG) are not taken")
    try:
        return _Reader().read(yaml.parse(text, Loader=_LOADER))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        said = ", ".join(part for part in (error.context, error.problem) if part)
        raise _invalid(mark.line if mark else 0, mark.column if mark else 0, said) from None
    except yaml.YAMLError as error:
        raise _invalid(0, 0, str(error)) from None


class _Reader:
    """Makes a value from the events of the parser, without recursion."""

    def __init__(self) -> None:
        #: The lists and mappings that are open, and the key that each mapping has last named.
        self._open: list[Any] = []
        self._keys: list[str | None] = []
        self._documents: list[Any] = []

    def read(self, events: Iterable[Any]) -> Any:
        """The value of the only document."""
        for event in events:
            _check_plain(event)
            if isinstance(event, yaml.ScalarEvent):
                self._scalar(event)
            elif isinstance(event, yaml.SequenceStartEvent | yaml.MappingStartEvent):
                self._begin(event)
            elif isinstance(event, yaml.SequenceEndEvent | yaml.MappingEndEvent):
                self._open.pop()
                self._keys.pop()
            elif isinstance(event, yaml.DocumentStartEvent) and self._documents:
                raise _at(event, "a second document; there is to be one")
        if not self._documents:
            raise _invalid(0, 0, "there is no document")
        return self._documents[0]

    def _scalar(self, event: yaml.ScalarEvent) -> None:
        _check_unicode(event)
        value = _plain(event) if event.implicit[0] else event.value
        if self._wants_key():
            self._key(event, value)
        else:
            self._put(value)

    def _begin(self, event: yaml.CollectionStartEvent) -> None:
        if self._wants_key():
            raise _at(event, "a key must be a text")
        if len(self._open) >= MAX_DEPTH:
            raise _at(event, f"nested deeper than {MAX_DEPTH}")
        inner: Any = {} if isinstance(event, yaml.MappingStartEvent) else []
        self._put(inner)
        self._open.append(inner)
        self._keys.append(None)

    def _wants_key(self) -> bool:
        return bool(self._open) and isinstance(self._open[-1], dict) and self._keys[-1] is None

    def _key(self, event: yaml.ScalarEvent, key: Any) -> None:
        if not isinstance(key, str):
            raise _at(event, "a key must be a text; put it in quotes")
        if key in self._open[-1]:
            raise _at(event, f"the key {json.dumps(key[:100], ensure_ascii=False)} is there twice")
        self._keys[-1] = key

    def _put(self, value: Any) -> None:
        if not self._open:
            self._documents.append(value)
        elif isinstance(self._open[-1], list):
            self._open[-1].append(value)
        else:
            self._open[-1][self._keys[-1]] = value
            self._keys[-1] = None


def _check_plain(event: Any) -> None:
    if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
        raise _at(event, "anchors and aliases (& and *) are not taken; put text that begins so in quotes")
    if getattr(event, "tag", None) is not None:
        raise _at(event, "tags (!) are not taken; put text that begins so in quotes")


def _check_unicode(event: yaml.ScalarEvent) -> None:
    try:
        event.value.encode()
    except UnicodeEncodeError:
        raise _at(event, r"half of a surrogate pair; write \U and eight digits") from None


def _plain(event: yaml.ScalarEvent) -> Any:
    """The value of a scalar without quotes."""
    text = event.value
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    try:
        if _INTEGER.fullmatch(text):
            return _integer(text)
        if _FLOAT.fullmatch(text):
            return _float(text)
    except ValueError as error:
        raise _at(event, str(error)) from None
    if _NOT_FINITE.fullmatch(text):
        raise _at(event, "numbers must be finite; put text in quotes")
    return text


def _integer(text: str) -> int:
    base = {"0o": 8, "0x": 16}.get(text[:2], 10)
    # Python refuses very long ones itself, in other words.
    if len(text.lstrip("-+0")) > 30 or (value := int(text, base)) not in _INTEGERS:
        raise ValueError("an integer beyond 64 bits; put text in quotes")
    return value


def _float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError("a number too large; put text in quotes")
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key is there twice")
    return found


def _refuse(text: str) -> NoReturn:
    raise ValueError(f"{text} is not JSON")


def _nests_deeper(value: Any, most: int) -> bool:
    level = [value]
    for _ in range(most + 1):
        inner = [node.values() if isinstance(node, dict) else node for node in level if isinstance(node, dict | list)]
        if not inner:
            return False
        level = [child for node in inner for child in node]
    return True


def _decoded(text: bytes) -> str:
    try:
        return text.decode()
    except UnicodeDecodeError as error:
        before = text[: error.start].decode()
        raise _invalid(*_place(before, len(before)), "not UTF-8") from None


def _place(text: str, at: int) -> tuple[int, int]:
    return text.count("\n", 0, at), len(text[:at].rpartition("\n")[2])


def _at(event: Any, msg: str) -> Invalid:
    return _invalid(event.start_mark.line, event.start_mark.column, msg)


def _invalid(line: int, column: int, msg: str) -> Invalid:
    """`line` and `column` count from 0, as the parser does."""
    problem = Problem((), f"line {line + 1}, column {column + 1}: {msg}")
    return Invalid(f"The YAML cannot be taken: {problem.msg}.", problems=[problem])
