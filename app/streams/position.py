"""Positions: how far a follower has come, and the opaque cursors that say so.

Events of several tasks are in the order of (transaction, event). A transaction that is under way may still write events
before those of one that has ended; so a follower only ever reads below the *horizon*, the oldest transaction under way
(Postgres' `pg_snapshot_xmin`), and nothing can appear behind it any more.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from app.errors import Invalid, Problem

#: Of a cursor; the numbers are Postgres' bigint.
_FORM = re.compile(r"([0-9]{1,18})-([0-9]{1,18})")
#: Behind all events of a transaction.
LAST = 2**63 - 1


@dataclass(frozen=True)
class Position:
    """Behind an event.

    Attributes:
        xid: the transaction that wrote the event.
        event_id: the event's `id`.
    """

    xid: int = 0
    event_id: int = 0

    @property
    def cursor(self) -> str:
        """The position as text for clients."""
        return f"{self.xid}-{self.event_id}"


def parse(cursor: str) -> Position:
    """The position that a cursor says. Raises Invalid if it is not one of ours."""
    match = _FORM.fullmatch(cursor)
    if match is None:
        raise Invalid("The cursor is not valid.", problems=[Problem(("after",), "take the cursor of a frame as it is")])
    return Position(*map(int, match.groups()))


def parse_seq(after: str) -> int:
    """The seq that a follower of one task has come to. Raises Invalid."""
    if not re.fullmatch(r"[0-9]{1,18}", after):
        raise Invalid("The seq is not valid.", problems=[Problem(("after",), "must be the seq of an event, or 0")])
    return int(after)
