"""Which memories: the one place where an owner, a scope and a filter become a condition in SQL."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from app.memory.filters import compile_filter
from schema.memories import MemoryStatus

_SCOPE = ("agent_id", "session_id", "user_id")
_COLUMNS = ("memory_type", "agent_id", "session_id", "user_id", "status")


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """Memories of one owner. None: any."""

    owner: str
    memory_type: str | None = None
    agent_id: str | None = None
    session_id: str | None = None
    user_id: str | None = None
    #: A condition on the metadata (filters.py).
    filter: dict[str, Any] | None = None
    created_after: datetime | None = None
    created_before: datetime | None = None
    status: str | None = MemoryStatus.ACTIVE
    #: Whether those count that have expired and are not swept yet.
    expired: bool = False
    #: Whether None means none: of agent, session and user.
    exact: bool = False

    def where(self) -> tuple[str, dict[str, Any]]:
        """A condition on `memory AS m`, and its parameters, whose names start with w_ or f_.

        Raises:
            Invalid: the filter is not acceptable.
        """
        conditions = ["m.owner = :w_owner"]
        params: dict[str, Any] = {"w_owner": self.owner}
        for column in _COLUMNS:
            if (value := getattr(self, column)) is not None:
                conditions.append(f"m.{column} = :w_{column}")
                params[f"w_{column}"] = value
            elif self.exact and column in _SCOPE:
                conditions.append(f"m.{column} IS NULL")
        if self.created_after is not None:
            conditions.append("m.created_at > :w_after")
            params["w_after"] = self.created_after
        if self.created_before is not None:
            conditions.append("m.created_at < :w_before")
            params["w_before"] = self.created_before
        if not self.expired:
            conditions.append("(m.expires_at IS NULL OR m.expires_at > now())")
        if self.filter:
            condition, more = compile_filter(self.filter)
            conditions.append(condition)
            params |= more
        return " AND ".join(conditions), params
