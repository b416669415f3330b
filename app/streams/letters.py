"""Letters: what a follower of an agent gets of its inbox, again and again until it is acknowledged.

The inbox itself knows what is acknowledged, so a follower that connects again needs no cursor for it: it gets whatever
is not.
"""

from __future__ import annotations

import time
from typing import Any

from app.db import Db
from app.messages.find import inbox
from app.prepared import prepared

#: Seconds until a letter that nobody acknowledged is told again; each time twice as many, up to the last.
AGAIN_S = 30.0
_AGAIN_MOST_S = 600.0
#: Letters of one look, and those that may be told and not acknowledged before more are.
_LIMIT = 100
MOST_OPEN = 1000
_OPEN = prepared(
    "letters_open",
    """
    SELECT seq FROM messages
    WHERE owner = :owner AND destination_agent_id = :agent_id AND status = 'sent' AND seq = ANY(:seqs)
    """,
)


class Letters:
    """One follower's way through an inbox.

    Attributes:
        more: whether the last look left something to read at once.
    """

    def __init__(self, owner: str, agent_id: str) -> None:
        self.more = False
        self._owner = owner
        self._agent_id = agent_id
        self._seq = 0
        #: When to tell a letter again, and after how many seconds more: by seq, in order.
        self._open: dict[int, tuple[float, float]] = {}
        self._next: tuple[int, dict[int, tuple[float, float]]] = (0, {})

    @property
    def due_at(self) -> float | None:
        """When something has to be told again, on the monotonic clock; None: there is nothing."""
        return min((at for at, _ in self._open.values()), default=None)

    def look(self, db: Db) -> list[tuple[Any, bool]]:
        """What is new, or due again: rows of messages, and whether each was told before. It counts once it is kept."""
        now = time.monotonic()
        open_ = self._unacknowledged(db, now)
        due = [seq for seq, (at, _) in open_.items() if at <= now]
        told = [(letter, True) for letter in self._fetch(db, due[0] - 1, len(due)) if letter.seq in due] if due else []
        for letter, _ in told:
            wait_s = min(2 * open_[letter.seq][1], _AGAIN_MOST_S)
            open_[letter.seq] = (now + wait_s, wait_s)
        seq, room = self._seq, min(_LIMIT, MOST_OPEN - len(open_))
        self.more = len(told) < len(due)
        if room > 0:
            letters, left = inbox(db, self._owner, self._agent_id, self._seq, room)
            self.more |= left is not None and len(open_) + len(letters) < MOST_OPEN
            for letter in letters:
                seq = letter.seq
                open_[seq] = (now + AGAIN_S, AGAIN_S)
                told.append((letter, False))
        self._next = (seq, open_)
        return told

    def keep(self) -> None:
        """What the last look found is going to be told."""
        self._seq, self._open = self._next

    def _unacknowledged(self, db: Db, now: float) -> dict[int, tuple[float, float]]:
        """What is still open of what was told; it is looked up only if there is reason to."""
        if len(self._open) < MOST_OPEN and (self.due_at is None or self.due_at > now):
            return dict(self._open)
        params = {"owner": self._owner, "agent_id": self._agent_id, "seqs": list(self._open)}
        sent = set(db.execute(_OPEN, params).scalars())
        return {seq: when for seq, when in self._open.items() if seq in sent}

    def _fetch(self, db: Db, after: int, count: int) -> list[Any]:
        return inbox(db, self._owner, self._agent_id, after, min(count, _LIMIT))[0]
