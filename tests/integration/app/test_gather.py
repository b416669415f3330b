"""Gather: callers that come together share a transaction, and nothing else."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import pytest
from sqlalchemy import Connection, text
from sqlalchemy.exc import IntegrityError, OperationalError

from app.db import after_commit
from app.errors import NotFound
from app.gather import Gather
from schema.base import new_id
from tests.support import eventually, scalar, together

pytestmark = pytest.mark.usefixtures("clawq")

_WRITE = text(
    "INSERT INTO sessions (id, owner, session_type, status, metadata) "
    "SELECT id, 'ada', 'chat', 'active', '{}' FROM unnest(CAST(:ids AS text[])) AS n (id)"
)


class Desk:
    """Writes a row for each item; holds its first group until it is let go."""

    def __init__(self) -> None:
        self.groups: list[list[str]] = []
        self.open = threading.Event()
        self.gather: Gather[str, str] = Gather(self.work)

    def work(self, db: Connection, items: Sequence[str]) -> list[Any]:
        self.groups.append(list(items))
        assert self.open.wait(20)
        db.execute(_WRITE, {"ids": [item for item in items if item != "refused"]})
        return [NotFound("refused") if item == "refused" else item.upper() for item in items]

    def crowd(self, *items: str) -> list[Any]:
        """Call for a first item, and for the others while it is being worked on."""

        def late(item: str) -> str:
            eventually(lambda: self.groups)
            return self.gather(item)

        def let_go() -> None:
            eventually(lambda: len(self.gather._line) == len(items))
            self.open.set()

        first, *others, _ = together(
            lambda: self.gather("first"), *[lambda item=item: late(item) for item in items], let_go
        )
        assert first == "FIRST"
        return others


def test_who_comes_alone_has_a_transaction_of_his_own() -> None:
    desk = Desk()
    desk.open.set()
    assert [desk.gather("a"), desk.gather("b")] == ["A", "B"]
    assert desk.groups == [["a"], ["b"]]


def test_those_who_come_meanwhile_share_the_next_transaction() -> None:
    desk = Desk()
    names = [new_id() for _ in range(5)]
    assert desk.crowd(*names) == [name.upper() for name in names]
    assert [sorted(group) for group in desk.groups] == [["first"], sorted(names)]
    assert scalar("SELECT count(DISTINCT xmin::text) FROM sessions") == 2
    assert scalar("SELECT count(*) FROM sessions") == 6


def test_what_is_refused_to_one_is_given_to_the_others() -> None:
    desk = Desk()
    good, refused = desk.crowd("good", "refused")
    assert good == "GOOD"
    assert isinstance(refused, NotFound)
    assert len(desk.groups) == 2


def test_a_fault_in_the_data_of_one_does_not_take_the_others_with_it() -> None:
    desk = Desk()
    good, twice, fine = desk.crowd("good", "first", "fine")
    assert (good, fine) == ("GOOD", "FINE")
    assert isinstance(twice, IntegrityError)
    assert scalar("SELECT count(*) FROM sessions") == 3


def test_a_postgres_that_is_away_is_told_to_all_of_a_group_at_once(clawq: pytest.MonkeyPatch) -> None:
    desk = Desk()
    away = OperationalError("", {}, Exception("gone"))
    tries = []

    def fail(db: Connection, items: Sequence[str]) -> list[Any]:
        if items == ["first"]:
            return desk.work(db, items)
        tries.append(list(items))
        raise away

    desk.gather = Gather(fail)
    assert desk.crowd("a", "b", "c") == [away] * 3
    assert len(tries) == 1


def test_who_stands_in_line_while_postgres_does_not_answer_waits_no_second_time(clawq: pytest.MonkeyPatch) -> None:
    away = OperationalError("", {}, Exception("no answer"))
    tries: list[list[str]] = []
    stuck = threading.Event()

    def fail(_: Connection, items: Sequence[str]) -> list[Any]:
        tries.append(list(items))
        assert stuck.wait(20)
        raise away

    gather: Gather[str, str] = Gather(fail)

    def late(item: str) -> str:
        eventually(lambda: tries)
        return gather(item)

    def let_go() -> None:
        eventually(lambda: len(gather._line) == 2)
        stuck.set()

    answers = together(lambda: gather("first"), lambda: late("a"), lambda: late("b"), let_go)
    assert answers == [away, away, away, None]
    assert tries == [["first"]]


def test_a_newcomer_waits_for_the_heir_of_the_line(clawq: pytest.MonkeyPatch) -> None:
    working, most = [0], [0]
    doors = {name: threading.Event() for name in ("first", "heir", "newcomer")}
    begun: list[str] = []

    def work(_: Connection, items: Sequence[str]) -> Sequence[str]:
        working[0] += 1
        most[0] = max(most[0], working[0])
        begun.extend(items)
        assert doors[items[0]].wait(20)
        working[0] -= 1
        return items

    gather: Gather[str, str] = Gather(work)

    def after(earlier: str, item: str) -> str:
        eventually(lambda: earlier in begun)
        return gather(item)

    def open_doors() -> None:
        eventually(lambda: len(gather._line) == 1)
        doors["first"].set()
        eventually(lambda: len(gather._line) == 1 and "heir" in begun)
        doors["newcomer"].set()
        doors["heir"].set()

    answers = together(
        lambda: gather("first"), lambda: after("first", "heir"), lambda: after("heir", "newcomer"), open_doors
    )
    assert answers == ["first", "heir", "newcomer", None]
    assert most == [1], "two lead at once"


def test_the_line_moves_on_after_a_failure() -> None:
    desk = Desk()
    desk.open.set()
    desk.gather("a")
    with pytest.raises(IntegrityError):
        desk.gather("a")
    assert desk.gather("b") == "B"


def test_what_waits_for_the_commit_is_done_before_the_answer() -> None:
    done: list[str] = []

    def work(db: Connection, items: Sequence[str]) -> Sequence[str]:
        after_commit(db, "x", lambda: done.append("committed"))
        return items

    assert Gather(work)("a") == "a"
    assert done == ["committed"]
