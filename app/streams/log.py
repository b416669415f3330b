"""The log: events of all tasks in their order, read below the horizon (position.py)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import text

from app.db import Db
from app.prepared import prepared
from app.streams.position import LAST, Position

Group = Literal["workflow", "session", "agent"]

#: Events of all tasks that one statement looks at.
WINDOW = 5000
#: A page ends before its events hold more than this; one there always is.
MOST_BYTES = 2 * 2**20

_HORIZON = "h AS MATERIALIZED (SELECT (pg_snapshot_xmin(pg_current_snapshot())::text)::bigint AS xid)"
_WINDOW = """
    log AS MATERIALIZED (
        SELECT * FROM events
        WHERE (xid, id) > (:xid, :event_id) AND xid < (SELECT xid FROM h) ORDER BY xid, id LIMIT :window
    )
"""
_LAST = "LEFT JOIN LATERAL (SELECT xid, id FROM log ORDER BY xid DESC, id DESC LIMIT 1) AS l ON true"
# The agent of an event is that of the last admission before it: a task may have another one on its next try.
_AGENT = """
    (SELECT q.data->>'agent' FROM events q
     WHERE q.task_id = e.task_id AND q.seq <= e.seq AND q.kind = 'queued' ORDER BY q.seq DESC LIMIT 1)
"""
_MEMBER = {"workflow": "t.workflow_id = :id", "session": "t.session_id = :id", "agent": f"{_AGENT} = :id"}
_MINE = "(CAST(:owner AS text) IS NULL OR t.owner = :owner)"
_SHOWN = "e.task_id, e.seq, e.kind, e.at, e.attempt, e.data, e.xid, e.id"
# Postgres weighs, so that what a page has no room for does not travel.
WEIGHED = """
    w AS (SELECT *, sum(octet_length(data::text)) OVER (ORDER BY {order}) - octet_length(data::text) AS before FROM e),
    f AS (SELECT count(*) AS found FROM e)
"""
_WEIGHED = WEIGHED.format(order="xid, id")
_OUT = _SHOWN.replace("e.", "w.")
# OFFSET 0: whatever the planner thinks of these tables, each event's task is found by its id.
_SCAN = {
    group: prepared(
        f"scan_{group}",
        f"""
        WITH {_HORIZON}, {_WINDOW}, e AS (
            SELECT {_SHOWN} FROM log e
            CROSS JOIN LATERAL (SELECT * FROM tasks WHERE id = e.task_id OFFSET 0) AS t
            WHERE {_MINE} AND {member} ORDER BY e.xid, e.id LIMIT :limit
        ), {_WEIGHED}
        SELECT h.xid AS horizon, (SELECT count(*) FROM log) AS looked, l.xid AS last_xid, l.id AS last_id,
               f.found, {_OUT} FROM h CROSS JOIN f LEFT JOIN w ON w.before < :most {_LAST} ORDER BY w.xid, w.id
        """,  # noqa: S608
    )
    for group, member in _MEMBER.items()
}
# From its tasks: what a group did long ago lies far apart in the log.
_REPLAY = {
    group: prepared(
        f"replay_{group}",
        f"""
        WITH {_HORIZON}, e AS (
            SELECT {_SHOWN} FROM (SELECT id FROM tasks t WHERE {_MINE} AND {_MEMBER[group]} OFFSET 0) AS t
            CROSS JOIN LATERAL (SELECT * FROM events WHERE task_id = t.id OFFSET 0) AS e
            WHERE (e.xid, e.id) > (:xid, :event_id) AND e.xid < (SELECT xid FROM h) ORDER BY e.xid, e.id LIMIT :limit
        ), {_WEIGHED}
        SELECT h.xid AS horizon, f.found, {_OUT}
        FROM h CROSS JOIN f LEFT JOIN w ON w.before < :most ORDER BY w.xid, w.id
        """,  # noqa: S608
    )
    for group in ("workflow", "session")
}
_CHANGED = prepared(
    "changed",
    f"""
    WITH {_HORIZON}, {_WINDOW}, e AS (
        SELECT e.task_id, t.workflow_id, t.session_id, CASE WHEN :agents THEN {_AGENT} END AS agent
        FROM log e CROSS JOIN LATERAL (SELECT workflow_id, session_id FROM tasks WHERE id = e.task_id OFFSET 0) AS t
    )
    SELECT h.xid AS horizon, (SELECT count(*) FROM log) AS looked, l.xid AS last_xid, l.id AS last_id,
           EXISTS (SELECT FROM events WHERE xid >= (SELECT xid FROM h)) AS waiting,
           ARRAY(SELECT DISTINCT task_id FROM e) AS tasks,
           ARRAY(SELECT DISTINCT workflow_id FROM e WHERE workflow_id IS NOT NULL) AS workflows,
           ARRAY(SELECT DISTINCT session_id FROM e WHERE session_id IS NOT NULL) AS sessions,
           ARRAY(SELECT DISTINCT agent FROM e WHERE agent IS NOT NULL) AS agents
    FROM h {_LAST}
    """,  # noqa: S608
)
# What was committed without waiting for the disk could be undone by a crash, and whoever was told of it would wait for
# ever. A commit that waits takes along all that came before it.
_FLUSH = text(
    "SELECT pg_logical_emit_message(true, 'clawq', '') WHERE pg_current_wal_flush_lsn() < pg_current_wal_insert_lsn()"
)
_NOW = prepared("horizon", f"WITH {_HORIZON} SELECT xid FROM h")  # noqa: S608


@dataclass(frozen=True)
class Page:
    """A part of the log.

    Attributes:
        events: rows of `events`, in order.
        position: all that concerns the group up to here is in this page or was in one before.
        more: whether there is more to read at once.
    """

    events: list[Any]
    position: Position
    more: bool


@dataclass(frozen=True)
class Changed:
    """Ids of whatever the events of a part of the log belong to.

    Attributes:
        waiting: whether events are there that a transaction under way still keeps back.
    """

    ids: set[str]
    position: Position
    more: bool
    waiting: bool


def secure(db: Db) -> None:
    """See to it that what has been read is on the disk. In a transaction of its own."""
    db.execute(_FLUSH)


def horizon(db: Db) -> int:
    """The oldest transaction under way: what ended before it is complete."""
    return int(db.execute(_NOW).scalar_one())


def scan(db: Db, group: Group, group_id: str, owner: str | None, after: Position, limit: int) -> Page:
    """Events of a group from the log, at most `limit`; `owner` None: whoever's."""
    params = {"id": group_id, "owner": owner, "xid": after.xid, "event_id": after.event_id}
    rows = db.execute(_SCAN[group], params | {"limit": limit, "window": WINDOW, "most": MOST_BYTES}).all()
    return _page(rows, limit) or Page(_events(rows), _behind(rows[0], after), more=rows[0].looked == WINDOW)


def replay(db: Db, group: Group, group_id: str, owner: str | None, after: Position, limit: int) -> Page:
    """The same for a workflow or session that may be long past."""
    params = {"id": group_id, "owner": owner, "xid": after.xid, "event_id": after.event_id}
    rows = db.execute(_REPLAY[group], params | {"limit": limit, "most": MOST_BYTES}).all()
    return _page(rows, limit) or Page(_events(rows), Position(rows[0].horizon - 1, LAST), more=False)


def changed(db: Db, after: Position, *, agents: bool) -> Changed:
    """What has changed since; `agents`: whether anybody asks for those, which cost a look each."""
    params = {"xid": after.xid, "event_id": after.event_id, "window": WINDOW, "agents": agents}
    row = db.execute(_CHANGED, params).one()
    ids = {*row.tasks, *row.workflows, *row.sessions, *row.agents}
    return Changed(ids, _behind(row, after), row.looked == WINDOW, row.waiting)


def _events(rows: Sequence[Any]) -> list[Any]:
    return [row for row in rows if row.task_id is not None]


def _page(rows: Sequence[Any], limit: int) -> Page | None:
    """A page that is full, by number or weight; None: there is no more of the group in what was looked at."""
    events = _events(rows)
    if rows[0].found < limit and rows[0].found == len(events):
        return None
    return Page(events, Position(events[-1].xid, events[-1].id), more=True)


def _behind(row: Any, after: Position) -> Position:
    """Behind what a window showed: its last event if it was full, all that is complete otherwise."""
    if row.looked == WINDOW:
        return Position(row.last_xid, row.last_id)
    return max(after, Position(row.horizon - 1, LAST), key=lambda p: (p.xid, p.event_id))
