"""Filters: conditions on the metadata of memories, as one condition in SQL.

    {"project": "apollo", "tags": ["urgent"], "priority": {"$gte": 3}, "$or": [{"a": 1}, {"b": {"$exists": false}}]}

A field maps to what it must be or hold, or to an object of operators, all of which must hold. An object that has
operators further down is conditions on the fields within. `$and` and `$or` take lists of filters, `$not` takes one.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from app.errors import Invalid, Problem
from app.storable import check_storable

Loc = tuple[str | int, ...]

MAX_DEPTH = 8
MAX_CONDITIONS = 100
#: Values that `$in` and `$nin` of a filter list together.
MAX_LISTED = 1000
#: Levels of lists and objects in a value.
_MOST_LEVELS = 32

_ORDER = {"$gt": ">", "$gte": ">=", "$lt": "<", "$lte": "<="}
_LISTS = ("$and", "$or")
_OPERATORS = ("$eq", "$ne", *_ORDER, "$in", "$nin", "$exists", "$not")
#: Characters of a field's name.
_MOST_NAME = 255


def compile_filter(filter: dict[str, Any], column: str = "m.metadata") -> tuple[str, dict[str, Any]]:
    """A condition on a jsonb column, and its parameters, whose names start with f_. An empty filter holds for all.

    It is true, false or NULL; NULL is false. All that the filter says is in parameters.

    Raises:
        Invalid: the filter is not acceptable; `loc` of each problem starts at "filter".
    """
    try:
        if _levels(filter) > 2 * MAX_DEPTH + _MOST_LEVELS:
            raise _Bad((), "nested too deeply")
        check_storable(filter)
        compiler = _Compiler(column)
        return compiler.filter(filter, (), _Field(), 1), compiler.params
    except _Bad as bad:
        problems = [Problem(("filter", *bad.loc), bad.msg)]
    except Invalid as exc:
        problems = [Problem(("filter", *problem.loc), problem.msg) for problem in exc.problems]
    raise Invalid("The filter is not acceptable.", problems=problems)


class _Bad(ValueError):
    def __init__(self, loc: Loc, msg: str) -> None:
        super().__init__(msg)
        self.loc = loc
        self.msg = msg


@dataclass(frozen=True)
class _Field:
    """A place in the metadata: the names that lead to it."""

    names: tuple[str, ...] = ()

    def holding(self, value: Any) -> str:
        """The metadata, as JSON, of one that has `value` here and nothing else."""
        for name in reversed(self.names):
            value = {name: value}
        return json.dumps(value)


class _Compiler:
    def __init__(self, column: str) -> None:
        self.params: dict[str, Any] = {}
        self._column = column
        self._paths: dict[tuple[str, ...], str] = {}
        self._conditions = 0
        self._listed = 0

    def filter(self, filter: Any, loc: Loc, within: _Field, depth: int) -> str:
        """All conditions of an object whose keys are fields, and at the top `$and`, `$or` and `$not`."""
        if not isinstance(filter, dict):
            raise _Bad(loc, "a filter is an object of fields and their conditions")
        if depth > MAX_DEPTH:
            raise _Bad(loc, f"nested deeper than {MAX_DEPTH}")
        parts = [self._entry(key, value, (*loc, key), within, depth) for key, value in filter.items()]
        return _joined(parts, "AND", empty="true")

    def _entry(self, key: str, value: Any, loc: Loc, within: _Field, depth: int) -> str:
        if not key.startswith("$"):
            return self._field(self._below(within, key, loc), value, loc, depth)
        if within.names or key not in (*_LISTS, "$not"):
            raise _Bad(loc, _misplaced(key))
        if key == "$not":
            return f"({self.filter(value, loc, within, depth + 1)}) IS NOT TRUE"
        if not isinstance(value, list) or not value:
            raise _Bad(loc, f"{key} takes a list of one or more filters")
        parts = [self.filter(one, (*loc, at), within, depth + 1) for at, one in enumerate(value)]
        return _joined(parts, "AND" if key == "$and" else "OR")

    def _below(self, within: _Field, name: str, loc: Loc) -> _Field:
        if not name or len(name) > _MOST_NAME:
            raise _Bad(loc, f"a field's name has 1 to {_MOST_NAME} characters")
        return _Field((*within.names, name))

    def _field(self, field: _Field, value: Any, loc: Loc, depth: int) -> str:
        if not isinstance(value, dict) or not _has_operators(value):
            return self._holds(field, value, loc)
        if not any(key.startswith("$") for key in value):
            return self.filter(value, loc, field, depth + 1)
        parts = [self._operator(field, key, operand, (*loc, key), depth) for key, operand in value.items()]
        return _joined(parts, "AND")

    def _operator(self, field: _Field, operator: str, operand: Any, loc: Loc, depth: int) -> str:
        if operator in _ORDER:
            return self._ordered(field, operator, operand, loc)
        match operator:
            case "$eq":
                return self._equals(field, operand, loc)
            case "$ne":
                return f"({self._equals(field, operand, loc)}) IS NOT TRUE"
            case "$in":
                return self._listed_in(field, operand, loc)
            case "$nin":
                return f"({self._listed_in(field, operand, loc)}) IS NOT TRUE"
            case "$exists":
                return self._exists(field, operand, loc)
            case "$not":
                if not isinstance(operand, dict) or not any(key.startswith("$") for key in operand):
                    raise _Bad(loc, "$not of a field takes an object of operators")
                if depth >= MAX_DEPTH:
                    raise _Bad(loc, f"nested deeper than {MAX_DEPTH}")
                return f"({self._field(field, operand, loc, depth + 1)}) IS NOT TRUE"
        raise _Bad(loc, f"is no operator; those of a field are {' '.join(_OPERATORS)}")

    def _holds(self, field: _Field, value: Any, loc: Loc) -> str:
        """Containment in the whole, which an index of the column answers: a scalar may also be one of a list."""
        self._count(loc, value)
        wholes = [value] if isinstance(value, list | dict) else [value, [value]]
        parts = [f"{self._column} @> CAST({self._param(field.holding(whole))} AS jsonb)" for whole in wholes]
        return _joined(parts, "OR")

    def _equals(self, field: _Field, value: Any, loc: Loc) -> str:
        if not isinstance(value, list | dict):
            return self._holds(field, value, loc)
        self._count(loc, value)
        return f"{self._sql(field)} = CAST({self._param(json.dumps(value))} AS jsonb)"

    def _listed_in(self, field: _Field, values: Any, loc: Loc) -> str:
        if not isinstance(values, list):
            raise _Bad(loc, f"{loc[-1]} takes a list of values")
        for at, value in enumerate(values):
            if isinstance(value, list | dict):
                raise _Bad((*loc, at), f"{loc[-1]} lists texts, numbers, true, false and null")
        self._count(loc, None)
        self._listed += len(values)
        if self._listed > MAX_LISTED:
            raise _Bad(loc, f"more than {MAX_LISTED} values are listed")
        # A list contains a scalar that is one of it, and a scalar contains itself.
        param = self._param([json.dumps(value) for value in values])
        return f"{self._sql(field)} @> ANY (CAST({param} AS jsonb[]))"

    def _ordered(self, field: _Field, operator: str, value: Any, loc: Loc) -> str:
        self._count(loc, None)
        if isinstance(value, str):
            # By code point, whatever the database's collation: times in ISO 8601 compare as they should.
            text = f"{self._sql(field)} #>> '{{}}'"
            order = f'({text}) COLLATE "C" {_ORDER[operator]} CAST({self._param(value)} AS text)'
            return f"(jsonb_typeof({self._sql(field)}) = 'string' AND {order})"
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise _Bad(loc, f"{operator} compares numbers or texts")
        order = f"{self._sql(field)} {_ORDER[operator]} CAST({self._param(json.dumps(value))} AS jsonb)"
        return f"(jsonb_typeof({self._sql(field)}) = 'number' AND {order})"

    def _exists(self, field: _Field, value: Any, loc: Loc) -> str:
        self._count(loc, None)
        if not isinstance(value, bool):
            raise _Bad(loc, "$exists takes true or false")
        return f"{self._sql(field)} IS {'NOT NULL' if value else 'NULL'}"

    def _count(self, loc: Loc, value: Any) -> None:
        self._conditions += 1
        if self._conditions > MAX_CONDITIONS:
            raise _Bad(loc, f"more than {MAX_CONDITIONS} conditions")
        if _levels(value) > MAX_DEPTH:
            raise _Bad(loc, f"the value is nested deeper than {MAX_DEPTH}")

    def _sql(self, field: _Field) -> str:
        """What reads a field. Names of the same field share their parameters."""
        if not field.names:
            return self._column
        if field.names not in self._paths:
            within = self._sql(_Field(field.names[:-1]))
            self._paths[field.names] = f"({within} -> CAST({self._param(field.names[-1])} AS text))"
        return self._paths[field.names]

    def _param(self, value: Any) -> str:
        name = f"f_{len(self.params)}"
        self.params[name] = value
        return f":{name}"


def _joined(parts: list[str], word: str, *, empty: str = "false") -> str:
    if len(parts) < 2:
        return parts[0] if parts else empty
    return f"({f' {word} '.join(parts)})"


def _misplaced(key: str) -> str:
    if key in (*_OPERATORS, *_LISTS):
        where = "the filter, not within a field" if key in _LISTS else "a field, not beside fields"
        return f"{key} is an operator of {where}"
    return f"is no operator; those of a filter are {' '.join(_LISTS)} $not, those of a field {' '.join(_OPERATORS)}"


def _has_operators(value: Any) -> bool:
    """Whether an object has operators, itself or in the objects within."""
    todo = [value]
    while todo:
        one = todo.pop()
        if isinstance(one, dict):
            if any(key.startswith("$") for key in one):
                return True
            todo += one.values()
    return False


def _levels(value: Any) -> int:
    """How deeply lists and objects are nested in `value`."""
    levels, level = 0, [value]
    while level := [one for one in level if isinstance(one, list | dict)]:
        levels += 1
        level = [inner for one in level for inner in (one.values() if isinstance(one, dict) else one)]
    return levels
