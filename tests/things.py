"""One of each thing that can belong to somebody, for tests of what others see, change or learn of it.

A noun that gets routes, frames or commands gets its line in `_MAKERS`, under the name that paths have for its ids.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from sqlalchemy import Table

from app import groupchats, keys
from app.db import transaction
from app.memory.store import NewMemory, store
from app.memory.update import update
from app.messages.acknowledge import acknowledge
from app.messages.deliver import deliver
from app.messages.send import NewMessage, send
from app.tasks import artifacts
from app.tasks.report import report
from app.workflows.control import cancel
from schema.base import new_id
from schema.tasks import EventKind
from tests.fleet import a_step, post_flow, tasks_of
from tests.support import Outcome, employ, end, post_one, put, sql, start
from tests.worlds import TABLES

#: Belongs to nobody: everybody sees the agents and may name them.
AGENT = "tea-maker"
#: Kinds of ids that tell nothing of their owner.
COMMON = ("agent_id", "name")


@dataclass
class Things:
    """What somebody has."""

    owner: str
    #: Ids by the name that paths have for them, such as `task_id`.
    ids: dict[str, list[str]] = field(default_factory=dict)

    @property
    def secret(self) -> str:
        """What each of their texts holds."""
        return f"secret of {self.owner}"

    @property
    def own(self) -> list[str]:
        """All ids that nobody else should know."""
        return [one for kind, ids in self.ids.items() if kind not in COMMON for one in ids]

    def one(self, kind: str) -> str:
        """The first of a kind."""
        return self.ids[kind][0]

    def rows(self, tables: Collection[str]) -> list[tuple[str, str]]:
        """What these tables hold of them, and all that refers to them: (table, row)."""
        parts = [
            f"SELECT '{table.name}' AS name, t::text AS row FROM {table.name} t WHERE {_theirs(table)}"
            for table in TABLES
            if table.name in tables
        ]
        return [(found.name, found.row) for found in sql(" UNION ALL ".join(parts) + " ORDER BY 1, 2", **self._known())]

    def forget(self) -> None:
        """Remove all of it, as if it had never been."""
        for table in reversed(TABLES):
            sql(f"DELETE FROM {table} t WHERE {_theirs(table)}", **self._known())

    def _known(self) -> dict[str, object]:
        return {"owner": self.owner, "ids": self.own}


def things_of(owner: str) -> Things:
    """Make one of each for `owner`."""
    things = Things(owner)
    for kind, make in _MAKERS.items():
        things.ids[kind] = make(things)
    return things


def _theirs(table: Table) -> str:
    if "owner" in table.columns:
        return "t.owner = :owner"
    # What has no owner is of what it refers to.
    names = [column.name for column in table.columns if column.name.endswith("_id")]
    return " OR ".join(f"t.{name} = ANY(:ids)" for name in names) or "false"


def _an_agent(_: Things) -> list[str]:
    sql(
        "INSERT INTO agents (id, name, role, goal, agent_type, status) VALUES (:id, :id, 'r', 'g', 'own', 'active')"
        " ON CONFLICT DO NOTHING",
        id=AGENT,
    )
    return [AGENT]


def _sessions(things: Things) -> list[str]:
    made = new_id()
    sql(
        "INSERT INTO sessions (id, owner, session_type, user_id) VALUES (:id, :owner, 'chat', :user)",
        id=made, owner=things.owner, user=things.secret,
    )  # fmt: skip
    return [made]


def _tasks(things: Things) -> list[str]:
    """One that has succeeded and left everything behind, one that failed, one that runs, and one that waits for it."""
    values = {
        "owner": things.owner, "description": things.secret, "payload": {"text": things.secret},
        "labels": {"of": things.secret}, "session_id": things.one("session_id"),
    }  # fmt: skip
    employ()
    ended = start(post_one(**values))
    with transaction() as db:
        report(db, ended.id, ended.attempt, [(EventKind.LOG, {"stream": "stdout", "text": things.secret})])
        artifacts.keep(db, ended.id, ended.attempt, _artifact(things), io.BytesIO(things.secret.encode()))
    end((ended, Outcome(kind="succeeded", result={"text": things.secret})))
    running = put("running", **values)
    return [ended.id, put("failed", **values), running, post_one(dependencies=[running], **values)]


def _artifact(things: Things) -> str:
    return f"{things.owner}.txt"


def _workflows(things: Things) -> list[str]:
    """One that has begun, and one that was cancelled."""
    steps = [a_step("a", payload={"text": things.secret}), a_step("b", "a")]
    document = {"name": things.secret, "tasks": [{"key": "a", "task_type": "echo", "payload": {}}]}
    values = {
        "owner": things.owner, "name": things.secret, "description": things.secret, "document": document,
        "input": {"text": things.secret}, "labels": {"of": things.secret}, "session_id": things.one("session_id"),
    }  # fmt: skip
    begun, cancelled = (post_flow(*steps, **values) for _ in range(2))
    with transaction() as db:
        cancel(db, cancelled)
    things.ids["task_id"] += [task.id for one in (begun, cancelled) for task in tasks_of(one).values()]
    return [begun, cancelled]


def _memories(things: Things) -> list[str]:
    """One that has been changed, and one in whose place another stands."""
    scope = {"session_id": things.one("session_id"), "agent_id": AGENT, "user_id": things.secret}
    texts = [f"{things.secret}: tea at five", f"{things.secret}: green", f"{things.secret}: black"]
    new = [
        NewMemory(memory_type="semantic", content=text, metadata={"of": things.secret}, **scope) for text in texts[:2]
    ]
    with transaction() as db:
        made = [one.id for one in store(db, things.owner, new)]
    with transaction() as db:
        update(db, things.owner, made[0], {"importance": 0.9})
        newer = NewMemory(memory_type="semantic", content=texts[2], supersedes=[made[1]])
        return made + [one.id for one in store(db, things.owner, [newer])]


def _groupchats(things: Things) -> list[str]:
    with transaction() as db:
        chat = groupchats.create(db, things.owner, name=things.secret, agents=[AGENT, "execution_agent"])
    return [chat.id]


def _messages(things: Things) -> list[str]:
    """One that was received, one that is in an inbox, a post with its copies, and one that is in no inbox yet."""
    letter = {
        "source_agent_id": "execution_agent", "message_type": "text", "content": things.secret,
        "metadata": {"of": things.secret}, "session_id": things.one("session_id"),
    }  # fmt: skip
    to_agent, to_chat = {"destination_agent_id": AGENT}, {"groupchat_id": things.one("groupchat_id")}
    for to, delivered in ((to_agent, True), (to_agent, True), (to_chat, True), (to_agent, False)):
        with transaction() as db:
            send(db, things.owner, NewMessage(**letter, **to))
        if delivered:
            with transaction() as db:
                deliver(db)
    made = [row.id for row in sql("SELECT id FROM messages WHERE owner = :owner ORDER BY position", owner=things.owner)]
    with transaction() as db:
        acknowledge(db, made[0])
    return made


def _keys(things: Things) -> list[str]:
    with transaction() as db:
        key, _ = keys.create(db, name=things.secret, owner=things.owner, scopes=["read"])
    return [key.id]


#: In the order in which they need each other.
_MAKERS: Mapping[str, Callable[[Things], list[str]]] = MappingProxyType(
    {
        "agent_id": _an_agent,
        "session_id": _sessions,
        "task_id": _tasks,
        "name": lambda things: [_artifact(things)],
        "workflow_id": _workflows,
        "memory_id": _memories,
        "groupchat_id": _groupchats,
        "message_id": _messages,
        "key_id": _keys,
    }
)
