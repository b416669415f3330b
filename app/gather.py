"""Gather: many threads, one transaction.

While one transaction commits, those who come meanwhile line up; then the first in line works for all of them. A caller
who comes alone does not wait for anybody, and under load the price of a transaction is shared.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Generic, TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import DataError, IntegrityError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from app.db import statements

Item = TypeVar("Item")
Answer = TypeVar("Answer")

#: Items in one transaction: more than there are threads, so a line never waits for two.
_MOST = 100


class _Place(Generic[Item, Answer]):
    """A caller's place in line."""

    def __init__(self, item: Item) -> None:
        self.item = item
        self.answer: Answer | Exception | None = None
        # A bare lock costs a tenth of an Event, and it is opened once.
        self.gate = threading.Lock()
        self.gate.acquire()


class Gather(Generic[Item, Answer]):
    """Calls of several threads at once, done together.

    Args:
        work: does a number of items in one transaction; an answer for each, in their order. An exception among the
            answers is raised to the caller of that item alone.
        begin: how the transaction begins and ends; `single` if `work` is one statement.
    """

    def __init__(
        self,
        work: Callable[[Connection, Sequence[Item]], Sequence[Answer | Exception]],
        begin: Callable[[], AbstractContextManager[Connection]] = statements,
    ) -> None:
        self._work = work
        self._begin = begin
        self._line: list[_Place[Item, Answer]] = []
        self._busy = False
        self._lock = threading.Lock()

    def __call__(self, item: Item) -> Answer:
        """Have `item` done, and committed. Raises what `work` answers or raises."""
        place: _Place[Item, Answer] = _Place(item)
        with self._lock:
            self._line.append(place)
            leads = not self._busy
            self._busy = True
        if not leads:
            place.gate.acquire()
        if place.answer is None:
            self._lead()
        if isinstance(place.answer, Exception):
            raise place.answer
        assert place.answer is not None, "work gives every item an answer"
        return place.answer

    def _lead(self) -> None:
        """Work for those in line, then let the next one lead."""
        with self._lock:
            group, self._line = self._line[:_MOST], self._line[_MOST:]
        failure: Exception | None = RuntimeError("broken off")
        try:
            failure = self._settle(group)
        finally:
            with self._lock:
                if failure:
                    # Whoever waits has waited for this Postgres as long as the leader has, and would again.
                    group, self._line = [*group, *self._line], []
                heir = self._line[0] if self._line else None
                self._busy = heir is not None
            for place in group:
                if place.answer is None:
                    place.answer = failure
            for place in (*group[1:], *filter(None, (heir,))):
                place.gate.release()

    def _settle(self, group: Sequence[_Place[Item, Answer]]) -> Exception | None:
        """Have a group done. Returns what keeps everybody's work from being done, such as a Postgres that is away."""
        try:
            with self._begin() as db:
                answers = self._work(db, [place.item for place in group])
        except (IntegrityError, DataError) as exc:
            # One of them is at fault, and who is alone knows that it is.
            if len(group) == 1:
                group[0].answer = exc
            failures = [self._settle([place]) for place in group] if len(group) > 1 else []
            return next(filter(None, failures), None)
        except (OperationalError, InterfaceError, PoolTimeout) as exc:
            return exc
        except Exception as exc:  # noqa: BLE001
            for place in group:
                place.answer = exc
            return None
        for place, answer in zip(group, answers, strict=True):
            place.answer = answer
        return None
