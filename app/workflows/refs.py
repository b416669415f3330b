"""References: how a payload takes what only the run of its workflow knows.

`{"$ref": PATH}` stands for what PATH names, `{"$literal": X}` for X as it is. What a reference brings is data: nothing
in it is replaced again.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from app.errors import ClawqError, Problem
from app.storable import check_storable
from app.workflows.paths import BadPath, Missing, Path, follow, kind, parse

#: How deep lists and objects nest where references are looked for.
MAX_DEPTH = 64
#: Characters of JSON that the references of one value bring together: a small payload can name a large value often.
MAX_BROUGHT = 16 << 20

MISSING: Final = object()

_SIBLINGS = ("default", "decode", "select", "encode")
_ROOTS = "input, tasks.KEY.result, tasks.KEY.status, workflow.id, workflow.name"

Loc = tuple[str | int, ...]


class Unresolved(ValueError):
    """A reference leads nowhere, or a condition compares what cannot be compared. The message is for people."""


@dataclass(frozen=True)
class TaskView:
    """What references see of a task.

    Attributes:
        status: how it ended.
        result: what it gave; None where it did not succeed.
    """

    status: str
    result: Any


@dataclass(frozen=True, kw_only=True)
class Scope:
    """What references can name.

    Attributes:
        input: of the workflow.
        tasks: the ancestors, by key.
        workflow: its `id` and `name`.
        item, index: the element that a task under `map` is for, and its place.
    """

    input: Mapping[str, Any]
    tasks: Mapping[str, TaskView]
    workflow: Mapping[str, str]
    item: Any = MISSING
    index: int | None = None
    #: What was decoded once, for all that look into the same text.
    decoded: dict[tuple[Loc, str], Any] = field(default_factory=dict, compare=False)


def problems_of(value: Any, *, mapped: bool) -> list[Problem]:
    """What is wrong with how references are written in `value`.

    Args:
        value: JSON.
        mapped: whether `item` and `index` can be named.
    """
    found: list[Problem] = []
    for loc, special in _specials(value):
        if special is None:
            found.append(Problem(loc, f"nested deeper than {MAX_DEPTH}"))
        else:
            found += [Problem((*loc, *below), msg) for below, msg in _faults(special, mapped)]
    return found


def task_keys(value: Any) -> set[str]:
    """The keys of the tasks that references in `value` name."""
    return {key for key, _ in _tasks_named(value)}


def result_keys(value: Any) -> set[str]:
    """Those of them whose results they name."""
    return {key for key, what in _tasks_named(value) if what == "result"}


def has_refs(value: Any) -> bool:
    """Whether anything in `value` is to be replaced."""
    return any(special is not None for _, special in _specials(value))


def is_special(value: Any) -> bool:
    """Whether `value` is an object that stands for something else."""
    return isinstance(value, dict) and any(key.startswith("$") for key in value)


def resolve(value: Any, scope: Scope) -> Any:
    """`value` with its references replaced. It is not changed; the answer may share parts with it and with `scope`.

    Raises:
        Unresolved: a reference leads nowhere and has no default, cannot be decoded, or is not written as it should be;
            or they bring more than MAX_BROUGHT.
    """
    return Resolver(scope).replace(value)


def _tasks_named(value: Any) -> Iterator[tuple[str, str | int]]:
    for _, special in _specials(value):
        path = _path_of(special) if special and "$literal" not in special else None
        match path.parts if path else ():
            case ["tasks", str(key), what, *_]:
                yield key, what


def _specials(value: Any) -> Iterator[tuple[Loc, dict[str, Any] | None]]:
    """The objects in `value` that stand for something else, in its order, and None for what is nested too deep."""
    todo: list[tuple[Loc, Any]] = [((), value)]
    while todo:
        loc, node = todo.pop()
        if not isinstance(node, dict | list):
            continue
        if len(loc) >= MAX_DEPTH:
            yield loc, None
            continue
        if isinstance(node, dict) and is_special(node):
            yield loc, node
            # A default may hold references; what is literal, or wrong, does not.
            node = {"default": node["default"]} if "$ref" in node and "default" in node else {}
        children = list(node.items() if isinstance(node, dict) else enumerate(node))
        todo += [((*loc, at), child) for at, child in reversed(children) if isinstance(child, dict | list)]


def _faults(special: dict[str, Any], mapped: bool) -> Iterator[tuple[Loc, str]]:
    """What is wrong with one such object: where below it, and what."""
    if "$literal" in special:
        if len(special) > 1:
            yield (), "$literal stands alone in its object"
        return
    for key in special:
        if key.startswith("$") and key != "$ref":
            yield (key,), 'unknown: only $ref and $literal begin with "$"; write {"$literal": …} around data that does'
    if "$ref" not in special:
        return
    for key in special:
        if not key.startswith("$") and key not in _SIBLINGS:
            yield (key,), f"unknown: beside $ref there may be {', '.join(_SIBLINGS)}"
    if fault := _path_fault(special["$ref"], mapped):
        yield ("$ref",), fault
    if "select" in special and (fault := _syntax_fault(special["select"])):
        yield ("select",), fault
    if special.get("decode", "json") not in ("json", "lines"):
        yield ("decode",), 'must be "json" or "lines"'
    if special.get("encode", "json") != "json":
        yield ("encode",), 'must be "json"'


def _syntax_fault(text: Any) -> str | None:
    if not isinstance(text, str):
        return f"a path is a text, not {kind(text)}"
    try:
        parse(text)
    except BadPath as error:
        return str(error)
    return None


def _path_fault(text: Any, mapped: bool) -> str | None:
    if fault := _syntax_fault(text):
        return fault
    match parse(text).parts:
        case ["input", *_] | ["tasks", str(), "result", *_] | ["tasks", str(), "status"] | ["workflow", "id" | "name"]:
            return None
        case ["item", *_] | ["index"]:
            return None if mapped else "item and index are there only in the payload of a task with `map`"
        case ["tasks", str(), "status", *_] | ["workflow", "id" | "name", *_] | ["index", *_]:
            return "there is nothing below status, workflow.id, workflow.name and index"
    return f"a path begins with {_ROOTS}, or, under `map`, item or index"


def _path_of(special: dict[str, Any]) -> Path | None:
    text = special.get("$ref")
    return None if _path_fault(text, mapped=True) else parse(str(text))


def _check(special: dict[str, Any]) -> None:
    for below, msg in _faults(special, mapped=True):
        raise Unresolved(": ".join([*map(str, below), msg]))


class Resolver:
    """Replaces references, which bring no more than MAX_BROUGHT together."""

    def __init__(self, scope: Scope) -> None:
        self._scope = scope
        self._input = scope.input if isinstance(scope.input, dict) else dict(scope.input)
        self._left = MAX_BROUGHT
        #: Of this item alone.
        self._decoded: dict[tuple[Loc, str], Any] = {}

    def replace(self, value: Any, depth: int = 0) -> Any:
        """`value` with its references replaced."""
        if not isinstance(value, dict | list):
            return value
        if depth >= MAX_DEPTH:
            raise Unresolved(f"nested deeper than {MAX_DEPTH}")
        if isinstance(value, list):
            return [self.replace(item, depth + 1) for item in value]
        if not is_special(value):
            return {key: self.replace(item, depth + 1) for key, item in value.items()}
        _check(value)
        return value["$literal"] if "$literal" in value else self._brought(value, depth)

    def exists(self, reference: Any) -> bool:
        """Whether a reference leads somewhere, be it to null; its default does not count.

        Raises:
            Unresolved: it cannot be decoded, or is not written as it should be.
        """
        if not isinstance(reference, dict) or "$ref" not in reference:
            raise Unresolved("not a reference")
        _check(reference)
        try:
            self.find(reference)
        except Missing:
            return False
        return True

    def find(self, reference: dict[str, Any]) -> Any:
        """What a reference that is written well leads to, before it is encoded.

        Raises:
            Missing: nothing.
        """
        path = parse(reference["$ref"])
        root, start = self._root(path)
        value = follow(root, path, start)
        if how := reference.get("decode"):
            place = (path.parts, how)
            decoded = self._decoded if path.parts[0] == "item" else self._scope.decoded
            if place not in decoded:
                decoded[place] = _decode(value, how, path)
            value = decoded[place]
        if "select" in reference:
            try:
                value = follow(value, parse(reference["select"]))
            except Missing as missing:
                raise Missing(f"{path.text}, select {missing}") from None
        return value

    def _brought(self, reference: dict[str, Any], depth: int) -> Any:
        try:
            value = self.find(reference)
        except Missing as missing:
            if "default" not in reference:
                raise Unresolved(str(missing)) from None
            value = self.replace(reference["default"], depth + 1)
        try:
            text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
        except RecursionError:
            raise Unresolved(f"{reference['$ref']}: the value is nested too deep") from None
        self._left -= len(text)
        if self._left < 0:
            raise Unresolved(f"the references bring more than {MAX_BROUGHT >> 20} MiB together")
        return text if "encode" in reference else value

    def _root(self, path: Path) -> tuple[Any, int]:
        """The value that a path begins in, and how many of its parts lead there."""
        match path.parts:
            case ["input", *_]:
                return self._input, 1
            case ["tasks", str(key), what, *_]:
                return self._of_task(key, what, path), 3
            case ["workflow", *_]:
                return dict(self._scope.workflow), 1
            case ["item", *_] if self._scope.item is not MISSING:
                return self._scope.item, 1
            case ["index"] if self._scope.index is not None:
                return self._scope.index, 1
        raise Missing(f"{path.text}: there is no {path.upto(1)} here")

    def _of_task(self, key: str, what: str | int, path: Path) -> Any:
        task = self._scope.tasks.get(key)
        if task is None:
            raise Missing(f"{path.text}: there is no task {key} before this one")
        if what == "status":
            return task.status
        if task.result is None and task.status != "succeeded":
            raise Missing(f"{path.text}: {key} is {task.status} and has no result")
        return task.result


def _decode(value: Any, how: str, path: Path) -> Any:
    if not isinstance(value, str):
        raise Unresolved(f"{path.text}: only a text is decoded, this is {kind(value)}")
    if how == "lines":
        lines = value.removesuffix("\n").split("\n") if value else []
        return [line.removesuffix("\r") for line in lines]
    try:
        decoded = json.loads(value)
        check_storable(decoded)
    except ClawqError as error:
        raise Unresolved(f"{path.text}: {error.problems[0].msg}") from None
    except RecursionError:
        raise Unresolved(f"{path.text}: the JSON in it is nested too deep") from None
    except ValueError as error:
        raise Unresolved(f"{path.text}: the text is not JSON: {error}") from None
    return decoded
