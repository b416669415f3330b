"""Turns to start a container: who comes when."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest

from tests.support import eventually
from workers.sandbox.starts import Starts


class Line:
    """Threads that ask for a turn one after the other, and note in `turns` when they have it."""

    def __init__(self, starts: Starts) -> None:
        self.turns: list[str] = []
        self._starts = starts
        self._threads: list[threading.Thread] = []

    def ask(self, name: str, turn: Callable[[], AbstractContextManager[None]]) -> None:
        """Returns once the thread waits."""
        asked = threading.Event()

        def run() -> None:
            with turn():
                self.turns.append(name)

        def given_up() -> bool:
            asked.set()
            return False

        self.given_up = given_up
        thread = threading.Thread(target=run)
        self._threads.append(thread)
        thread.start()
        assert asked.wait(10)

    def join(self) -> None:
        for thread in self._threads:
            thread.join(10)
            assert not thread.is_alive()


def test_tasks_have_their_turns_in_the_order_they_came_and_before_the_reserve() -> None:
    starts = Starts(1)
    line = Line(starts)
    with starts.for_task(lambda: False):
        line.ask("reserve", lambda: starts.for_reserve(line.given_up))
        for number in range(20):
            line.ask(f"task {number}", lambda: starts.for_task(line.given_up))
    line.join()
    assert line.turns == [*(f"task {number}" for number in range(20)), "reserve"]


def test_one_that_gives_up_holds_up_nobody() -> None:
    starts = Starts(1)
    line = Line(starts)
    with starts.for_task(lambda: False):
        with pytest.raises(TimeoutError), starts.for_task(lambda: True):
            pass
        line.ask("next", lambda: starts.for_task(line.given_up))
    line.join()
    assert line.turns == ["next"]


def test_as_many_at_once_as_allowed_and_the_reserve_alone() -> None:
    starts = Starts(2)
    line = Line(starts)
    with starts.for_task(lambda: False):
        with starts.for_task(lambda: False), pytest.raises(TimeoutError), starts.for_task(lambda: True):
            pass
        with pytest.raises(TimeoutError), starts.for_reserve(lambda: True):
            pass
    with starts.for_reserve(lambda: False):
        line.ask("task", lambda: _ready(starts, line))
        eventually(lambda: line.turns == ["task"])
    line.join()


def _ready(starts: Starts, line: Line) -> AbstractContextManager[None]:
    line.given_up()
    return starts.for_task(line.given_up)
