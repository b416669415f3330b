"""References: what a memory that comes in says it belongs to must be there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Protocol

from sqlalchemy import text

from app.db import Db
from app.errors import Problem

_AGENTS = text("SELECT id FROM agents WHERE id = ANY(:ids)")
_SESSIONS = text("SELECT id FROM sessions WHERE id = ANY(:ids) AND owner = :owner")


_NOW = text("SELECT now()")


class Scoped(Protocol):
    """What names an agent and a session, or neither."""

    @property
    def agent_id(self) -> str | None: ...
    @property
    def session_id(self) -> str | None: ...


def missing(db: Db, owner: str, memories: Sequence[Scoped]) -> list[Problem]:
    """Agents that do not exist, and sessions that do not or are another owner's; `loc` is (index, field)."""
    problems = []
    for name, statement, noun in (("agent_id", _AGENTS, "agent"), ("session_id", _SESSIONS, "session")):
        asked = {place: one for place, memory in enumerate(memories) if (one := getattr(memory, name)) is not None}
        params = {"ids": list(set(asked.values())), "owner": owner}
        known = set(db.execute(statement, params).scalars()) if asked else set()
        problems += [Problem((p, name), f"there is no {noun} {one}") for p, one in asked.items() if one not in known]
    return problems


def past(db: Db, ends: Mapping[int, datetime | None]) -> list[Problem]:
    """Ends that lie in the past, by Postgres' clock; `loc` is (index, field)."""
    given = {place: end for place, end in ends.items() if end is not None}
    if not given:
        return []
    now: datetime = db.execute(_NOW).scalar_one()
    return [Problem((place, "expires_at"), "must lie in the future") for place, end in given.items() if end <= now]
