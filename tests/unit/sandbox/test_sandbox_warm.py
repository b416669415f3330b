"""The warm pool and the turns to start, around containers that only pretend."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from docker.errors import APIError

from tests.support import eventually
from workers.sandbox import starts as starts_
from workers.sandbox import warm
from workers.sandbox.profile import Profile
from workers.sandbox.starts import Starts
from workers.sandbox.warm import WarmPool

PYTHON, NODE = Profile(image="python"), Profile(image="node")


class Pretended:
    """A container as the pool sees it."""

    def __init__(self, profile: Profile) -> None:
        self.profile, self.born, self.warm, self.idle = profile, warm.time.monotonic(), False, True

    def await_ready(self) -> None: ...

    def is_idle(self) -> bool:
        return self.idle


class Engine:
    """Starts them and counts what is there."""

    def __init__(self) -> None:
        self.alive: list[Any] = []
        self.refuses = 0

    def start(self, profile: Profile) -> Any:
        if self.refuses:
            self.refuses -= 1
            raise APIError("no space left on device")
        self.alive.append(Pretended(profile))
        return self.alive[-1]

    def discard(self, container: Any) -> None:
        self.alive.remove(container)


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Engine:
    monkeypatch.setattr(warm, "LOOK_S", 0.05)
    monkeypatch.setattr(warm, "REST_S", 0.0)
    monkeypatch.setattr(warm, "FIRST_PAUSE_S", 0.01)
    return Engine()


@pytest.fixture
def make(engine: Engine) -> Iterator[Callable[..., WarmPool]]:
    pools = []

    def make(wanted: dict[Profile, int]) -> WarmPool:
        pools.append(WarmPool(engine.start, engine.discard, wanted, Starts(2)))
        pools[-1].open()
        return pools[-1]

    yield make
    for pool in pools:
        pool.close()
        pool.join(warm.time.monotonic() + 20)
    assert engine.alive == []


def test_it_fills_every_profile_and_refills_what_is_taken(engine: Engine, make: Callable[..., WarmPool]) -> None:
    pool = make({PYTHON: 3, NODE: 1})
    eventually(lambda: pool.depth() == 4)
    assert [c.profile for c in engine.alive].count(NODE) == 1
    taken: Any = pool.take(NODE)
    assert (taken.profile, taken.warm) == (NODE, True)
    assert pool.take(NODE) is not taken
    eventually(lambda: pool.depth() == 4)
    assert pool.take(Profile(image="python", memory_mb=512)) is None
    for container in engine.alive[:]:
        if container not in pool._idle[PYTHON] and container not in pool._idle[NODE]:
            engine.discard(container)


def test_one_container_is_never_taken_twice(engine: Engine, make: Callable[..., WarmPool]) -> None:
    pool = make({PYTHON: 8})
    taken: list[Any] = []
    threads = [threading.Thread(target=lambda: taken.extend(pool.take(PYTHON) for _ in range(50))) for _ in range(8)]
    eventually(lambda: pool.depth() == 8)
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    got = [container for container in taken if container]
    assert len(got) >= 8
    assert len({id(container) for container in got}) == len(got)
    for container in got:
        engine.discard(container)


def test_what_has_died_is_not_handed_out_and_is_replaced(engine: Engine, make: Callable[..., WarmPool]) -> None:
    pool = make({PYTHON: 1})
    eventually(lambda: pool.depth() == 1)
    dead = engine.alive[0]
    dead.idle = False
    container: Any = pool.take(PYTHON)
    assert container is not dead
    eventually(lambda: dead not in engine.alive and pool.depth() == 1)
    if container:
        engine.discard(container)


def test_what_has_grown_old_is_replaced(engine: Engine, make: Callable[..., WarmPool]) -> None:
    pool = make({PYTHON: 1})
    eventually(lambda: pool.depth() == 1)
    old = engine.alive[0]
    old.born -= warm.AGE_S
    eventually(lambda: old not in engine.alive and pool.depth() == 1)


def test_an_engine_that_refuses_is_asked_again_later(engine: Engine, make: Callable[..., WarmPool]) -> None:
    engine.refuses = 3
    pool = make({PYTHON: 1})
    eventually(lambda: pool.depth() == 1)
    assert engine.refuses == 0


def test_a_supervisor_that_does_not_come_up_is_discarded(engine: Engine, make: Callable[..., WarmPool]) -> None:
    silent: list[Any] = []

    class Silent(Pretended):
        def await_ready(self) -> None:
            silent.append(self)
            raise warm.LinkError("no answer.")

    def start(profile: Profile) -> Any:
        if len(silent) == 2:
            return Engine.start(engine, profile)
        engine.alive.append(Silent(profile))
        return engine.alive[-1]

    engine.start = start  # type: ignore[method-assign]
    pool = make({PYTHON: 1})
    eventually(lambda: pool.depth() == 1)
    assert not set(map(id, silent)) & set(map(id, engine.alive))


def test_a_pool_of_nothing_starts_nothing(engine: Engine, make: Callable[..., WarmPool]) -> None:
    pool = make({PYTHON: 0})
    assert (pool.take(PYTHON), pool.depth(), engine.alive) == (None, 0, [])


def test_turns_are_bounded_and_tasks_come_before_the_reserve() -> None:
    starts, order, release = Starts(1), [], threading.Event()

    def task(name: str) -> None:
        with starts.for_task(lambda: False):
            order.append(name)
            assert release.wait(20)

    def reserve() -> None:
        with starts.for_reserve(lambda: False):
            order.append("reserve")

    first = threading.Thread(target=task, args=("first",))
    first.start()
    eventually(lambda: order == ["first"])
    others = [threading.Thread(target=reserve), threading.Thread(target=task, args=("second",))]
    for thread in others:
        thread.start()
    eventually(lambda: len(starts._line) == 1)
    assert order == ["first"]
    release.set()
    for thread in (first, *others):
        thread.join(20)
    assert order == ["first", "second", "reserve"]


def test_who_gives_up_leaves_the_line() -> None:
    starts = Starts(1)
    with starts.for_task(lambda: False):
        with pytest.raises(TimeoutError), starts.for_task(lambda: True):
            pytest.fail("there was no turn")
        with pytest.raises(TimeoutError), starts.for_reserve(lambda: True):
            pytest.fail("there was no turn")
    with starts.for_reserve(lambda: True):
        assert starts._running == 1
    assert (starts._running, len(starts._line)) == (0, 0)


def test_tasks_have_their_turns_in_the_order_they_came() -> None:
    starts, order = Starts(1), []
    names = list(range(20))

    def task(name: int) -> None:
        with starts.for_task(lambda: False):
            order.append(name)

    threads = [threading.Thread(target=task, args=(name,)) for name in names]
    with starts.for_task(lambda: False):
        for name, thread in zip(names, threads, strict=True):
            thread.start()
            eventually(lambda name=name: len(starts._line) == name + 1)
    for thread in threads:
        thread.join(20)
    assert order == names


def test_a_profile_that_cannot_start_keeps_no_other_from_it(engine: Engine, make: Callable[..., WarmPool]) -> None:
    def start(profile: Profile) -> Any:
        if profile is NODE:
            raise APIError("no such image")
        return Engine.start(engine, profile)

    engine.start = start  # type: ignore[method-assign]
    pool = make({PYTHON: 4, NODE: 1})
    eventually(lambda: pool.depth() == 4)


def test_those_that_grew_old_together_are_replaced_one_by_one(
    engine: Engine, make: Callable[..., WarmPool], monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = make({PYTHON: 4})
    eventually(lambda: pool.depth() == 4)
    depths: list[int] = []
    discard = engine.discard
    monkeypatch.setattr(pool, "_discard", lambda container: (depths.append(pool.depth()), discard(container)))
    old = engine.alive[:]
    for container in old:
        container.born -= warm.AGE_S
    eventually(lambda: not set(map(id, old)) & set(map(id, engine.alive)) and pool.depth() == 4)
    assert depths == [3] * 4


def test_the_reserve_gets_in_line_when_it_has_waited_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(starts_, "PATIENCE_S", 0.0)
    starts, order = Starts(1), []

    def reserve() -> None:
        with starts.for_reserve(lambda: False):
            order.append("reserve")

    with starts.for_task(lambda: False):
        waiting = threading.Thread(target=reserve)
        waiting.start()
        eventually(lambda: len(starts._line) == 1)
    waiting.join(20)
    assert order == ["reserve"]
