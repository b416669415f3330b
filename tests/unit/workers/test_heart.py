"""Holds, and a heart that gives them up in time whatever Postgres does. Postgres is played by functions here."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError

from app.settings import settings
from app.tasks.lease import Held
from tests.support import a_claim, eventually
from workers import heart as heart_
from workers.heart import Heart, Hold

FINE = Held(cancelled=False, overdue=False)


class Postgres:
    """What the heart's statements are answered: `answer` is called with the pairs that are asked for."""

    def __init__(self) -> None:
        self.answer: Callable[[list[tuple[str, int]]], dict[Any, Held]] = lambda held: dict.fromkeys(held, FINE)
        self.beats = 0

    def look(self, db: None, held: list[tuple[str, int]]) -> dict[Any, Held]:
        return self.answer(held)

    def heartbeat(self, db: None, held: list[tuple[str, int]]) -> dict[Any, Held]:
        found = self.answer(held)
        self.beats += 1
        return found


@pytest.fixture
def postgres(environment: pytest.MonkeyPatch) -> Postgres:
    """Answers that all is well, until a test says otherwise; leases of 3 s."""
    played = Postgres()

    @contextmanager
    def no_transaction() -> Iterator[None]:
        yield None

    environment.setenv("CLAWQ_LEASE_S", "3")
    settings.cache_clear()
    environment.setattr(heart_, "statements", no_transaction)
    environment.setattr(heart_.lease, "look", played.look)
    environment.setattr(heart_.lease, "heartbeat", played.heartbeat)
    return played


@pytest.fixture
def heart(postgres: Postgres) -> Iterator[Heart]:
    """A beating heart."""
    beating = Heart(lambda: None)
    beating.start()
    yield beating
    beating.close()


def gone(held: list[tuple[str, int]]) -> dict[Any, Held]:
    raise OperationalError("SELECT 1", {}, Exception("connection refused"))


def test_a_hold_lets_its_program_run_until_it_is_stopped() -> None:
    hold = Hold(a_claim(), good_until=0)
    assert not hold.is_set()
    hold.stop("cancelled")
    assert hold.is_set()


def test_the_first_reason_to_stop_stands() -> None:
    hold = Hold(a_claim(), good_until=0)
    hold.stop("overdue")
    hold.stop("lost")
    assert hold.reason == "overdue"


@pytest.mark.parametrize(
    ("held", "reason"),
    [(Held(cancelled=True, overdue=False), "cancelled"), (Held(cancelled=False, overdue=True), "overdue"),
     (Held(cancelled=True, overdue=True), "cancelled"), (None, "lost")],
)  # fmt: skip
def test_a_program_stops_for_what_postgres_says(
    heart: Heart, postgres: Postgres, held: Held | None, reason: str
) -> None:
    postgres.answer = lambda pairs: {} if held is None else dict.fromkeys(pairs, held)
    with heart.holding([a_claim()], time.monotonic()) as (hold,):
        eventually(hold.is_set)
        assert hold.reason == reason


def test_a_lease_is_renewed_as_long_as_the_program_runs(heart: Heart, postgres: Postgres) -> None:
    with heart.holding([a_claim()], time.monotonic()) as (hold,):
        first = hold.good_until
        eventually(lambda: hold.good_until > first + settings().lease_s)
        assert not hold.is_set()
    assert heart.healthy


@pytest.mark.parametrize("lease_s", ["0.5", "1"])
def test_the_shortest_leases_can_be_kept_too(environment: pytest.MonkeyPatch, postgres: Postgres, lease_s: str) -> None:
    environment.setenv("CLAWQ_LEASE_S", lease_s)
    settings.cache_clear()
    beating = Heart(lambda: None)
    beating.start()
    with beating.holding([a_claim()], time.monotonic()) as (hold,):
        eventually(lambda: postgres.beats >= 8)
        assert hold.reason is None
    beating.close()


def test_a_program_is_stopped_before_its_lease_ends_when_postgres_refuses(heart: Heart, postgres: Postgres) -> None:
    with heart.holding([a_claim()], time.monotonic()) as (hold,):
        eventually(lambda: postgres.beats >= 1)
        postgres.answer = gone
        eventually(hold.is_set)
        assert hold.reason == "lost"
        assert time.monotonic() < hold.good_until
        eventually(lambda: not heart.healthy)


def test_a_program_is_stopped_before_its_lease_ends_when_postgres_hangs(heart: Heart, postgres: Postgres) -> None:
    answers = threading.Event()

    def hang(held: list[tuple[str, int]]) -> dict[Any, Held]:
        answers.wait(60)
        return dict.fromkeys(held, FINE)

    with heart.holding([a_claim()], time.monotonic()) as (hold,):
        postgres.answer = hang
        try:
            eventually(hold.is_set, timeout=10)
            assert hold.reason == "lost"
            assert time.monotonic() < hold.good_until
        finally:
            answers.set()


def test_the_heart_beats_again_when_postgres_is_back(heart: Heart, postgres: Postgres) -> None:
    postgres.answer = gone
    with heart.holding([a_claim()], time.monotonic()) as (hold,):
        eventually(hold.is_set)
    postgres.answer = lambda held: dict.fromkeys(held, FINE)
    eventually(lambda: heart.healthy)
    with heart.holding([a_claim()], time.monotonic()) as (hold,):
        before = postgres.beats
        eventually(lambda: postgres.beats > before + 1)
        assert not hold.is_set()


def test_an_old_attempt_is_lost_though_this_worker_holds_the_next_one(heart: Heart, postgres: Postgres) -> None:
    old, new = a_claim(id="t", attempt=1), a_claim(id="t", attempt=2)
    postgres.answer = lambda held: {pair: FINE for pair in held if pair == ("t", 2)}
    with heart.holding([old, new], time.monotonic()) as (first, second):
        eventually(first.is_set)
        assert first.reason == "lost"
        assert not second.is_set()


def test_a_drain_hands_back_what_still_runs_when_its_time_is_up(
    environment: pytest.MonkeyPatch, postgres: Postgres
) -> None:
    environment.setenv("CLAWQ_DRAIN_S", "0")
    settings.cache_clear()
    beating = Heart(lambda: None)
    beating.start()
    with beating.holding([a_claim()], time.monotonic()) as (hold,):
        before = postgres.beats
        eventually(lambda: postgres.beats > before)
        assert not hold.is_set()
        beating.drain()
        eventually(hold.is_set)
        assert hold.reason == "drain"
    beating.close()


def test_a_drain_gives_running_programs_their_time(heart: Heart, postgres: Postgres) -> None:
    heart.drain()
    with heart.holding([a_claim()], time.monotonic()) as (hold,):
        before = postgres.beats
        eventually(lambda: postgres.beats > before + 1)
        assert not hold.is_set()


def test_a_drain_that_is_asked_for_again_gives_less_time_but_never_more(
    environment: pytest.MonkeyPatch, heart: Heart, postgres: Postgres
) -> None:
    heart.drain()
    first = heart._drain_at
    heart.drain()
    assert heart._drain_at == first
    with heart.holding([a_claim()], time.monotonic()) as (hold,):
        heart.drain(at_once=True)
        eventually(hold.is_set)
        assert hold.reason == "drain"


def test_what_has_changed_is_registered_before_the_next_heartbeat_is_due(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("CLAWQ_LEASE_S", "3600")
    settings.cache_clear()
    registered: list[float] = []
    beating = Heart(lambda: registered.append(time.monotonic()))
    beating.start()
    eventually(lambda: len(registered) == 2)
    beating.hurry()
    eventually(lambda: len(registered) == 3)
    beating.close()


def test_a_heart_that_cannot_register_does_not_start(postgres: Postgres) -> None:
    def register() -> None:
        gone([])

    with pytest.raises(OperationalError):
        Heart(register).start()


def test_a_hold_outside_its_block_is_not_asked_for(heart: Heart, postgres: Postgres) -> None:
    with heart.holding([a_claim(id="over")], time.monotonic()):
        pass
    asked: list[tuple[str, int]] = []
    postgres.answer = lambda held: asked.extend(held) or dict.fromkeys(held, FINE)
    with heart.holding([a_claim(id="now")], time.monotonic()):
        eventually(lambda: ("now", 1) in asked)
    assert ("over", 1) not in asked
