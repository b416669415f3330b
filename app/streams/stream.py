"""A stream: one follower's way through what happens to a task, a workflow, a session or an agent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import text

from app.db import Db
from app.errors import Invalid, NotFound, Problem
from app.keys import Caller
from app.prepared import prepared
from app.streams import log, position
from app.streams.letters import Letters
from app.streams.position import Position
from schema.tasks import TERMINAL

Kind = Literal["task", "workflow", "session", "agent"]

#: Events that one look reads.
_LIMIT = 200

_OWNERS = {
    "task": "SELECT owner, last_seq FROM tasks WHERE id = :id",
    "workflow": "SELECT owner FROM workflows WHERE id = :id",
    "session": "SELECT owner FROM sessions WHERE id = :id",
    # Agents are everybody's; what they do is not.
    "agent": "SELECT CAST(:owner AS text) AS owner FROM agents WHERE id = :id",
}
_OF_TASK = prepared(
    "follow_task",
    f"""
    WITH e AS (
        SELECT task_id, seq, kind, at, attempt, data FROM events
        WHERE task_id = :id AND seq > :after ORDER BY seq LIMIT :limit
    ), {log.WEIGHED.format(order="seq")}
    SELECT f.found, w.task_id, w.seq, w.kind, w.at, w.attempt, w.data FROM f JOIN w ON w.before < :most ORDER BY w.seq
    """,  # noqa: S608
)
_ENDED = {
    "task": "SELECT status, last_seq FROM tasks WHERE id = :id",
    "workflow": "SELECT status, (pg_snapshot_xmax(pg_current_snapshot())::text)::bigint AS next_xid"
    " FROM workflows WHERE id = :id",
}


@dataclass(frozen=True)
class Item:
    """What a follower is told.

    Attributes:
        cursor: where to go on after it.
        event: a row of `events`; or else:
        letter: a row of `messages`.
        again: whether the letter was told before, and nobody acknowledged it.
    """

    cursor: str
    event: Any = None
    letter: Any = None
    again: bool = False


class Stream:
    """A follower of one thing. Not for several threads at once.

    Attributes:
        kind, id: what is followed.
        more: whether the last look left something to read at once.
    """

    def __init__(self, kind: Kind, followed_id: str, caller: Caller, after: str | None) -> None:
        """Follow from behind the cursor `after`, or from the beginning, what `caller` may see.

        Raises:
            Invalid: the cursor is not one of ours.
        """
        self.kind = kind
        self.id = followed_id
        self.more = False
        self._caller = caller
        self._letters = Letters(caller.owner, followed_id) if kind == "agent" else None
        self._seq = position.parse_seq(after or "0") if kind == "task" else 0
        self._told = position.parse(after) if after and kind != "task" else Position()
        #: None until all has been read that was there at the beginning, and what comes is read from the log.
        self._read: Position | None = self._told if kind == "agent" else None
        #: The last four, as a look would leave them.
        self._next = (self._seq, self._told, self._read, self.more)
        #: Of a workflow that has ended: no transaction after this one has written events of it.
        self._last_xid: int | None = None

    @property
    def due_at(self) -> float | None:
        """When to look again without a ring, on the monotonic clock; None: no need."""
        return self._letters.due_at if self._letters else None

    def check(self, db: Db) -> None:
        """See whether there is such a thing, and whether the cursor is of this database.

        Raises:
            NotFound: there is none, or it is another owner's.
            Invalid: the cursor lies in the future: it is another database's, or this one was restored since.
        """
        found = db.execute(text(_OWNERS[self.kind]), {"id": self.id, "owner": self._caller.owner}).one_or_none()
        if found is None or self._caller.sees not in (None, found.owner):
            raise NotFound(f"No {self.kind} {self.id}.")
        if self.kind == "task" and self._seq > found.last_seq:
            raise Invalid("The task has no such event.", problems=[Problem(("after",), f"at most {found.last_seq}")])
        if self._told.xid and self._told.xid >= log.horizon(db):
            raise Invalid(
                "The cursor is not of this database.", problems=[Problem(("after",), "follow from the start")]
            )

    def look(self, db: Db) -> list[Item]:
        """What is new, in order; `more` says whether to look again at once.

        A look that fails has not happened: the next one finds the same.
        """
        items = self._of_task(db) if self.kind == "task" else self._of_group(db)
        if items:
            log.secure(db)
        # Only now: nothing that could fail comes after.
        self._seq, self._told, self._read, self.more = self._next
        if self._letters:
            self._letters.keep()
        return items

    def has_ended(self, db: Db) -> bool:
        """Whether a task or workflow has ended and all of it has been told. To be asked after a look without more."""
        if self.kind not in _ENDED:
            return False
        row = db.execute(text(_ENDED[self.kind]), {"id": self.id}).one_or_none()
        if row is None or row.status not in TERMINAL:
            self._last_xid = None
            return row is None
        if self.kind == "task":
            return bool(row.last_seq <= self._seq)
        # Its last events may still be kept back.
        self._last_xid = self._last_xid or row.next_xid - 1
        return self._read is not None and self._read.xid >= self._last_xid

    def _of_task(self, db: Db) -> list[Item]:
        params = {"id": self.id, "after": self._seq, "limit": _LIMIT, "most": log.MOST_BYTES}
        rows = db.execute(_OF_TASK, params).all()
        more = bool(rows) and (rows[0].found == _LIMIT or rows[0].found > len(rows))
        self._next = (rows[-1].seq if rows else self._seq, self._told, self._read, more)
        return [Item(str(row.seq), row) for row in rows]

    def _of_group(self, db: Db) -> list[Item]:
        assert self.kind != "task"
        if self._read is None:
            page = log.replay(db, self.kind, self.id, self._caller.sees, self._told, _LIMIT)
        else:
            page = log.scan(db, self.kind, self.id, self._caller.sees, self._read, _LIMIT)
        items = [Item(Position(row.xid, row.id).cursor, row) for row in page.events]
        told = Position(page.events[-1].xid, page.events[-1].id) if page.events else self._told
        letters = self._letters.look(db) if self._letters else []
        items += [Item(told.cursor, letter=letter, again=again) for letter, again in letters]
        read = None if self._read is None and page.more else page.position
        more = page.more or (self._letters is not None and self._letters.more)
        self._next = (self._seq, told, read, more)
        return items
