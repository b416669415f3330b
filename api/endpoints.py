"""Endpoints: each route says, in one place, who may call it, what it takes and what it answers.

The router, the access checks, the OpenAPI document and the tests all read these declarations, so they cannot differ.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeVar, get_type_hints

from flask import Response
from pydantic import BaseModel

Scope = Literal["read", "submit", "admin"]
View = Callable[..., "Reply | Response"]
_View = TypeVar("_View", bound=View)

#: Everything that needs a key lives below this.
PREFIX = "/api/v1"
JSON = "application/json"
YAML = "application/yaml"


@dataclass(frozen=True)
class Reply:
    """What a view answers."""

    body: BaseModel | None = None
    http_status: int = 200
    #: URL path of what was created.
    location: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    #: What a repeated request is answered instead of `body`, where that holds a secret.
    remembered: BaseModel | None = None


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """One route.

    Attributes:
        method: the HTTP method; GET answers HEAD as well.
        rule: Flask's pattern, prefix included.
        view: called with those of `db`, `caller`, `body`, `query` and the path's parts that it has parameters for.
            One that takes `db` runs in a transaction; any other opens its own. One whose `db` may be None shares a
            transaction with others, in a statement that looks at the key again. It is given one of its own where the
            request is large, or may be repeated, so that the work and the record of the answer are one.
        tag: the chapter of the documentation.
        scope: what the caller's key must allow; None: open to everyone.
        answers: success statuses and their models.
        conflicts: when it answers 409, for the documentation.
        creates: whether it takes an Idempotency-Key.
        refers: whether its body or query names things that may not be there, which answers 404.
        media_type: of its success.
        accepts: media types of its body.
    """

    method: str
    rule: str
    view: View
    tag: str
    scope: Scope | None
    answers: Mapping[int, type[BaseModel] | None]
    conflicts: str | None
    creates: bool
    refers: bool
    media_type: str
    accepts: Sequence[str]
    body: type[BaseModel] | None
    query: type[BaseModel] | None
    takes: frozenset[str]
    shares_db: bool

    def takes_db(self, *, alone: bool) -> bool:
        """Whether the view is to be called in a transaction; `alone`: the request shares none."""
        return "db" in self.takes and (alone or not self.shares_db)

    @property
    def name(self) -> str:
        """Unique: Flask's endpoint and OpenAPI's operationId."""
        return self.view.__name__

    @property
    def path_parts(self) -> list[str]:
        """Names of the variable parts of the path."""
        return re.findall(r"<(?:\w+:)?(\w+)>", self.rule)


class Section:
    """The endpoints of one noun."""

    def __init__(self, tag: str, prefix: str = PREFIX) -> None:
        self.endpoints: list[Endpoint] = []
        self._tag = tag
        self._prefix = prefix

    def route(
        self,
        method: str,
        rule: str,
        *,
        scope: Scope | None,
        answers: Mapping[int, type[BaseModel] | None],
        conflicts: str | None = None,
        creates: bool = False,
        refers: bool = False,
        media_type: str = JSON,
        accepts: Sequence[str] = (JSON,),
    ) -> Callable[[_View], _View]:
        """Declare the decorated function as the view of a route; see `Endpoint` for the arguments."""

        def declare(view: _View) -> _View:
            hints = get_type_hints(view)
            parameters = inspect.signature(view).parameters
            self.endpoints.append(
                Endpoint(
                    method=method,
                    rule=self._prefix + rule,
                    view=view,
                    tag=self._tag,
                    scope=scope,
                    answers=answers,
                    conflicts=conflicts,
                    creates=creates,
                    refers=refers,
                    media_type=media_type,
                    accepts=accepts,
                    body=hints.get("body"),
                    query=hints.get("query"),
                    takes=frozenset(parameters),
                    shares_db="db" in parameters and parameters["db"].default is None,
                )
            )
            return view

        return declare
