"""Requests to every route with somebody's ids in every place that takes text.

The declarations say which routes, parameters and fields there are, and bodies.py what a body may be. A field of text
that no example has is a gap, and so is a part of a path that no thing stands for.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pydantic import BaseModel

from api.endpoints import Endpoint
from api.factory import _SECTIONS
from app.tasks.types import TASK_TYPES
from tests.integration.api.bodies import BODIES, payloads
from tests.things import AGENT, Things

ENDPOINTS = [endpoint for section in _SECTIONS for endpoint in section.endpoints if endpoint.scope]
#: Names and positions that lead to a value.
Place = tuple[str | int, ...]
#: Fields whose name does not say what kind of id they hold.
_KINDS = {
    "dependencies": "task_id",
    "assigned_to": "agent_id",
    "agents": "agent_id",
    "post_id": "message_id",
    "supersedes": "memory_id",
    "replaced_by": "memory_id",
    "ids": "memory_id",
    "id": "memory_id",
    "q": "task_id",
}


@dataclass(frozen=True)
class Ask:
    """A request."""

    endpoint: Endpoint
    path: Mapping[str, str]
    query: Mapping[str, str] = field(default_factory=dict)
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def url(self) -> str:
        """Its path, below the prefix of all."""
        url = self.endpoint.rule.removeprefix("/api/v1")
        for part, value in self.path.items():
            url = url.replace(f"<{part}>", value).replace(f"<path:{part}>", value)
        return url

    def places(self) -> list[Place]:
        """Where a text can be put: ("path", …), ("query", …) and ("body", …)."""
        query = self.endpoint.query.model_fields if self.endpoint.query else ()
        return [
            *(("path", part) for part in self.endpoint.path_parts),
            *(("query", name) for name in query),
            *(("body", *place) for place in texts(self.body)),
        ]

    def put(self, place: Place, value: str) -> Ask:
        """The same with `value` there."""
        where, *rest = place
        if where == "body":
            return replace(self, body=_put(self.body, rest, value))
        return replace(self, **{str(where): {**getattr(self, str(where)), str(rest[0]): value}})


def kind_of(place: Place, kinds: Iterable[str]) -> str | None:
    """What kind of id a place is for, by the name of its field; None: it does not say."""
    name = next(str(part) for part in reversed(place) if isinstance(part, str))
    return _KINDS.get(name) or next((kind for kind in kinds if name == kind or name.endswith(f"_{kind}")), None)


#: Routes that need a query. Of what nobody has had at hand nothing is told.
_QUERIES: Mapping[str, Mapping[str, str]] = {"stream_events": {"agent_id": AGENT}}


def asks(mine: Things) -> list[Ask]:
    """Every route with every example of its body, about what is `mine`."""
    path = {kind: ids[0] for kind, ids in mine.ids.items()}
    return [
        Ask(endpoint, {part: path[part] for part in endpoint.path_parts}, _QUERIES.get(endpoint.name, {}), body)
        for endpoint in ENDPOINTS
        for body in (BODIES[endpoint.body](mine) if endpoint.body else [None])
    ]


def gaps(kinds: Collection[str], mine: Things) -> list[str]:
    """What of the declarations is said nowhere here."""
    parts = [
        f"{endpoint.name}: path, {part}" for endpoint in ENDPOINTS for part in endpoint.path_parts if part not in kinds
    ]
    missing = [f"{e.name}: body, {e.body.__name__}" for e in ENDPOINTS if e.body and e.body not in BODIES]
    known: dict[type[BaseModel], list[Any]] = {model: [*make(mine)] for model, make in BODIES.items()}
    # Other tests may have taught this process a type of their own.
    known |= {t.payload: [] for t in TASK_TYPES.values() if t.payload.__module__.startswith("app.")}
    for name, some in payloads(mine).items():
        known[TASK_TYPES[name].payload] += some
    return [*parts, *missing, *(f"{model.__name__}: {gap}" for model in known for gap in _unsaid(model, known[model]))]


def texts(value: Any, place: Place = ()) -> Iterator[Place]:
    """The places of all texts in a body."""
    if isinstance(value, str):
        yield place
    elif isinstance(value, dict | list):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from texts(item, (*place, key))


def _put(value: Any, place: Sequence[str | int], new: str) -> Any:
    if not place:
        return new
    changed = copy.copy(value)
    changed[place[0]] = _put(value[place[0]], place[1:], new)
    return changed


def _unsaid(model: type[BaseModel], examples: Sequence[Any]) -> list[str]:
    schema = model.model_json_schema()
    return sorted(set(_without(schema, schema.get("$defs", {}), examples, "")))


def _without(schema: Any, defs: Mapping[str, Any], examples: Sequence[Any], where: str) -> Iterator[str]:
    """Places of text in a schema that no example has."""
    if "$ref" in schema:
        schema = defs[schema["$ref"].rpartition("/")[2]]
    for variant in schema.get("anyOf", ()):
        yield from _without(variant, defs, examples, where)
    for name, inner in schema.get("properties", {}).items():
        found = [example[name] for example in examples if isinstance(example, dict) and name in example]
        yield from _without(inner, defs, found, f"{where}.{name}")
    if isinstance(inner := schema.get("items"), dict):
        found = [item for example in examples if isinstance(example, list) for item in example]
        yield from _without(inner, defs, found, f"{where}[]")
    elif isinstance(inner := schema.get("additionalProperties"), dict):
        found = [item for example in examples if isinstance(example, dict) for item in example.values()]
        yield from _without(inner, defs, found, f"{where}{{}}")
    takes_text = schema.get("type") == "string" and not {"enum", "const", "format"} & set(schema)
    if takes_text and not any(isinstance(example, str) for example in examples):
        yield where
