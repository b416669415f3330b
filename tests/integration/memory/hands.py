"""What tests of memory do again and again, each in a transaction of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from app.db import statements
from app.embeddings.base import EmbedderAway, Unembeddable
from app.memory import dense, index
from app.memory.search import Found, search
from app.memory.store import NewMemory, store
from app.memory.verify import Report, verify
from app.memory.wanted import Wanted
from tests.support import OWNER, sql
from workers import indexing


def do(verb: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """What a verb returns."""
    with statements() as db:
        return verb(db, *args, **kwargs)


def new(content: str, **values: Any) -> NewMemory:
    """A text to be remembered."""
    return NewMemory(**{"memory_type": "semantic", "content": content, **values})


def keep(*contents: str, owner: str = OWNER, **values: Any) -> list[str]:
    """Remember texts; returns their ids."""
    return [one.id for one in do(store, owner, [new(content, **values) for content in contents])]


def look(query: str, *, owner: str = OWNER, limit: int = 10, mode: Any = "hybrid", **wanted: Any) -> Found:
    """What a search answers."""
    return do(search, Wanted(owner=owner, **wanted), query, limit=limit, mode=mode)


def texts(found: Found) -> list[str]:
    """The texts that a search found, best first."""
    return [hit.memory.content for hit in found.hits]


def catch_up() -> None:
    """Let the indexer do all there is to do now."""
    indexing.bring_up_to_date.run()


def check(*, repair: bool = False) -> Report:
    """Compare the index with Postgres."""
    serving = do(dense.active, OWNER)
    keys = [key for page in index.keys(serving.collection) for key in page]
    return do(verify, serving, keys, repair=repair)


def row(memory_id: str) -> Any:
    """A memory as it stands in the table."""
    (found,) = sql("SELECT * FROM memory WHERE id = :id", id=memory_id)
    return found


def outbox() -> list[Any]:
    """What the index does not know yet, oldest first."""
    return sql("SELECT * FROM memory_outbox ORDER BY id")


def agent(agent_id: str = "writer") -> str:
    """An agent of the user's own."""
    sql(
        "INSERT INTO agents (id, name, role, goal, agent_type, status) VALUES (:id, :id, 'r', 'g', 'own', 'active')",
        id=agent_id,
    )
    return agent_id


def session(session_id: str = "talk", owner: str = OWNER) -> str:
    """A session of an owner."""
    sql("INSERT INTO sessions (id, owner, session_type) VALUES (:id, :owner, 'chat')", id=session_id, owner=owner)
    return session_id


class Stub:
    """An embedder whose faults a test chooses."""

    name = "stub:3"
    dimensions = 3
    at_hand = 0

    def __init__(self) -> None:
        self.away = False
        self.never: set[str] = set()
        self.seen: list[str] = []

    def embed(self, texts: Sequence[str]) -> Any:
        if self.away:
            raise EmbedderAway
        if self.never & set(texts):
            raise Unembeddable
        self.seen += texts
        return np.array([[1.0, 0.0, 0.0]] * len(texts), dtype=np.float32)


def due() -> None:
    """Let everything in the outbox be due now."""
    sql("UPDATE memory_outbox SET available_at = now()")
