"""Conditions: whether a task of a workflow is done.

true or false; a reference; or an object of one operator: `eq ne lt le gt ge in contains exists all any not`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from operator import ge, gt, le, lt
from typing import Any

from app.errors import Problem
from app.workflows import refs
from app.workflows.paths import kind
from app.workflows.refs import Loc, Scope, Unresolved

#: Operators and references of one condition; whoever evaluates it does nothing else meanwhile.
MAX_TERMS = 100
#: Values that are compared for one condition, those inside lists and objects each for itself.
MAX_COMPARED = 1_000_000

_ORDER: dict[str, Callable[[Any, Any], bool]] = {"lt": lt, "le": le, "gt": gt, "ge": ge}
_PAIRS = ("eq", "ne", *_ORDER, "in", "contains")
_OPERATORS = (*_PAIRS, "exists", "all", "any", "not")


def problems_of(condition: Any, *, mapped: bool = False) -> list[Problem]:
    """What is wrong with how a condition is written. `mapped`: whether `item` and `index` can be named."""
    found: list[Problem] = []
    for count, (loc, term) in enumerate(_terms(condition), 1):
        if count > MAX_TERMS:
            return [*found, Problem((), f"a condition has at most {MAX_TERMS} operators and references")]
        found += [Problem((*loc, *below), msg) for below, msg in _faults(term, mapped)]
        if len(loc) > refs.MAX_DEPTH:
            return [*found, Problem(loc, f"nested deeper than {refs.MAX_DEPTH}")]
    return found


def task_keys(condition: Any) -> set[str]:
    """The keys of the tasks that references in `condition` name."""
    return refs.task_keys(condition)


def holds(condition: Any, scope: Scope) -> bool:
    """Whether a condition is true. `all` and `any` look no further than they have to.

    Raises:
        Unresolved: a reference that is looked at leads nowhere, values cannot be compared, or are too many, or it is
            not written as it should be.
    """
    return _Judge(scope).holds(condition)


class _Judge:
    """Judges one condition, with a bound on what it brings together and compares."""

    def __init__(self, scope: Scope) -> None:
        self._resolver = refs.Resolver(scope)
        self._left = MAX_COMPARED

    def holds(self, condition: Any, depth: int = 0) -> bool:
        """Whether it is true."""
        if depth > refs.MAX_DEPTH:
            raise Unresolved(f"nested deeper than {refs.MAX_DEPTH}")
        for below, msg in _faults(condition, mapped=True):
            raise Unresolved(": ".join([*map(str, below), msg]))
        if isinstance(condition, bool):
            return condition
        if "$ref" in condition:
            return bool(self._resolver.replace(condition))
        ((operator, operand),) = condition.items()
        match operator:
            case "all":
                return all(self.holds(part, depth + 2) for part in operand)
            case "any":
                return any(self.holds(part, depth + 2) for part in operand)
            case "not":
                return not self.holds(operand, depth + 1)
            case "exists":
                return self._resolver.exists(operand)
        a, b = self._resolver.replace(operand)
        return self._compare(operator, a, b)

    def _compare(self, operator: str, a: Any, b: Any) -> bool:
        for at, value in enumerate((a, b)):
            if fault := _misfit(operator, at, value):
                raise Unresolved(fault)
        if operator in _ORDER:
            if _rank(a) != _rank(b):
                raise Unresolved(f"{operator} cannot compare {kind(a)} with {kind(b)}")
            return _ORDER[operator](a, b)
        match operator:
            case "eq":
                return self._same(a, b)
            case "ne":
                return not self._same(a, b)
            case "in":
                return any(self._same(a, item) for item in b)
        return self._contains(a, b)

    def _contains(self, whole: Any, part: Any) -> bool:
        if isinstance(whole, list):
            return any(self._same(item, part) for item in whole)
        if not isinstance(part, str):
            raise Unresolved(f"contains looks for a text in {kind(whole)}, not for {kind(part)}")
        return part in whole

    def _same(self, a: Any, b: Any) -> bool:
        """Whether two JSON values are equal: numbers by value, and true is not 1."""
        todo = [(a, b)]
        while todo:
            a, b = todo.pop()
            self._left -= 1
            if self._left < 0:
                raise Unresolved(f"more than {MAX_COMPARED} values are compared")
            if isinstance(a, dict) and isinstance(b, dict):
                if a.keys() != b.keys():
                    return False
                todo += [(a[key], b[key]) for key in a]
            elif isinstance(a, list) and isinstance(b, list):
                if len(a) != len(b):
                    return False
                todo += zip(a, b, strict=True)
            elif isinstance(a, bool) is not isinstance(b, bool) or a != b:
                return False
        return True


def _terms(condition: Any) -> Iterator[tuple[Loc, Any]]:
    """A condition and those in it, in their order, each with its place."""
    todo: list[tuple[Loc, Any]] = [((), condition)]
    while todo:
        loc, term = todo.pop()
        yield loc, term
        if not isinstance(term, dict) or len(term) != 1:
            continue
        ((operator, operand),) = term.items()
        if operator == "not":
            todo.append(((*loc, operator), operand))
        elif operator in ("all", "any") and isinstance(operand, list):
            todo += [((*loc, operator, at), part) for at, part in reversed(list(enumerate(operand)))]


def _faults(term: Any, mapped: bool) -> Iterator[tuple[Loc, str]]:
    """What is wrong with one term, those in it apart."""
    if isinstance(term, bool):
        return
    if isinstance(term, dict) and "$ref" in term:
        yield from _ref_faults(term, (), mapped)
        return
    if not isinstance(term, dict) or len(term) != 1 or next(iter(term)) not in _OPERATORS:
        yield (), f"a condition is true, false, a reference, or an object of one operator: {' '.join(_OPERATORS)}"
        return
    ((operator, operand),) = term.items()
    if operator in _PAIRS:
        yield from _pair_faults(operator, operand, mapped)
    elif operator == "exists":
        yield from _exists_faults(operand, mapped)
    elif operator != "not" and not isinstance(operand, list):
        yield (operator,), "takes a list of conditions"


def _ref_faults(value: Any, loc: Loc, mapped: bool) -> Iterator[tuple[Loc, str]]:
    for problem in refs.problems_of(value, mapped=mapped):
        yield (*loc, *problem.loc), problem.msg


def _pair_faults(operator: str, operand: Any, mapped: bool) -> Iterator[tuple[Loc, str]]:
    if not isinstance(operand, list) or len(operand) != 2:
        yield (operator,), "takes a list of two values"
        return
    yield from _ref_faults(operand, (operator,), mapped)
    # What is written out can be told now; what references bring, when it is there.
    for at, value in enumerate(operand):
        if not refs.is_special(value) and (fault := _misfit(operator, at, value)):
            yield (operator, at), fault


def _exists_faults(operand: Any, mapped: bool) -> Iterator[tuple[Loc, str]]:
    if not isinstance(operand, dict) or "$ref" not in operand:
        yield ("exists",), "takes a reference"
        return
    yield from _ref_faults(operand, ("exists",), mapped)
    for sibling in ("default", "encode"):
        if sibling in operand:
            yield ("exists", sibling), "makes no difference to whether something is there"


def _misfit(operator: str, at: int, value: Any) -> str | None:
    """Why `value` cannot be the operand at place `at`."""
    if operator in _ORDER and _rank(value) is None:
        return f"{operator} compares numbers or texts, not {kind(value)}"
    if (operator, at) == ("in", 1) and not isinstance(value, list):
        return f"in looks into a list, not {kind(value)}"
    if (operator, at) == ("contains", 0) and not isinstance(value, list | dict | str):
        return f"contains looks into a list, a text or an object, not {kind(value)}"
    return None


def _rank(value: Any) -> type | None:
    """What `value` is ordered among."""
    if isinstance(value, str):
        return str
    return float if isinstance(value, int | float) and not isinstance(value, bool) else None
