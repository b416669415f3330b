"""Whoever dies, at whichever step between a write and its place in the index: nothing is lost, nothing is left over."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest

from benchmarks.texts import sentences
from tests.chaos.memories import Memories
from tests.chaos.rig import Rig

TEXTS = sentences(6, seed=1)
_MANY = 3000
#: Seconds in which a search answers, whatever Chroma does.
_PATIENCE_S = 3.0


@dataclass(frozen=True)
class Step:
    """A moment of the memory worker's work: what it says last, and whether that is heard."""

    engine: str
    words: tuple[bytes, ...]
    heard: bool


CLAIM = (b"WITH taken AS", b"COMMIT")
PUT = (b"/add ", b'"uris":null}')
# The answer to this is an answer to the last thing that a batch tells Postgres.
BATCH = (b"FOR NO KEY UPDATE", b"DELETE FROM memory_outbox", b"COMMIT")
FLIP = (b"SET status = 'retired'", b"COMMIT")

#: From a row that is committed to one that is indexed.
WRITING = {
    "about to claim": Step("postgres", CLAIM, heard=False),
    "has claimed": Step("postgres", CLAIM, heard=True),
    "has embedded": Step("postgres", (b"FOR NO KEY UPDATE",), heard=False),
    "about to put": Step("chroma", PUT, heard=False),
    "has put": Step("chroma", PUT, heard=True),
    "about to commit": Step("postgres", BATCH, heard=False),
    "has committed": Step("postgres", BATCH, heard=True),
}
FORGETTING = {
    "about to remove": Step("chroma", (b"/delete", b'"where_document"'), heard=False),
    "has removed": Step("chroma", (b"/delete", b'"where_document"'), heard=True),
    "about to commit": Step("postgres", BATCH, heard=False),
    "has committed": Step("postgres", BATCH, heard=True),
}
REBUILDING = {
    "about to make it": Step("chroma", (b"/collections ",), heard=False),
    "has made it": Step("chroma", (b"get_or_create",), heard=True),
    "about to fill it": Step("chroma", PUT, heard=False),
    "has filled it": Step("postgres", BATCH, heard=True),
    "about to exchange": Step("postgres", FLIP, heard=False),
    "has exchanged": Step("postgres", FLIP, heard=True),
}
VICTIMS = ("memory", "chroma", "postgres")


def deaths(steps: dict[str, Step]) -> list[Any]:
    """Every victim at every step; of a quick run each step with one of them, all in turn."""
    return [
        pytest.param(step, victim, id=f"{name}-{victim}", marks=[] if turn % 3 == place else [pytest.mark.soak])
        for turn, (name, step) in enumerate(steps.items())
        for place, victim in enumerate(VICTIMS)
    ]


@pytest.fixture
def memories(rig: Rig) -> Memories:
    """No memories yet, and an index. A scenario ends with `memories.settle()`."""
    made = Memories(rig)
    made.empty()
    return made


def die(rig: Rig, step: Step, act: Callable[[], object], victim: str) -> None:
    """Let the indexer come to this step of what `act` asks for, kill the victim then, and start it again."""
    link = rig.link("memory", step.engine)
    link.trap(*step.words, deliver=step.heard)
    act()
    link.await_sprung()
    rig.kill(victim, restart=False)
    rig.heal()


@pytest.mark.parametrize(("step", "victim"), deaths(WRITING))
def test_whoever_dies_at_a_step_of_a_write_nothing_is_lost(
    rig: Rig, memories: Memories, step: Step, victim: str
) -> None:
    changed, *_ = memories.store(*TEXTS[:3])
    memories.settle()

    def write() -> None:
        # The worker hears of it when all is there, so that one batch has both.
        rig.link("memory", "redis").pause()
        memories.store(*TEXTS[3:5])
        memories.change(changed, TEXTS[5])
        rig.link("memory", "redis").mend()

    die(rig, step, write, victim)
    memories.settle()


@pytest.mark.parametrize(("step", "victim"), deaths(FORGETTING))
def test_whoever_dies_as_memories_are_forgotten_they_do_not_come_back(
    rig: Rig, memories: Memories, step: Step, victim: str
) -> None:
    gone, *_ = memories.store(*TEXTS[:3])
    memories.settle()
    die(rig, step, lambda: memories.forget(gone), victim)
    memories.settle()


@pytest.mark.parametrize(("step", "victim"), deaths(REBUILDING))
def test_whoever_dies_as_an_index_is_built_it_is_built_in_the_end(
    rig: Rig, memories: Memories, step: Step, victim: str
) -> None:
    changed, gone, *_ = memories.store(*TEXTS[:3])
    memories.settle()
    before = memories.index()["active"]["id"]
    die(rig, step, memories.rebuild, victim)
    memories.change(changed, TEXTS[3])
    memories.forget(gone)
    memories.settle()
    assert memories.index()["active"]["id"] != before


def test_a_write_that_nobody_was_rung_for_is_indexed(rig: Rig, memories: Memories) -> None:
    memories.settle()
    rig.kill("memory", "clock", restart=False)
    rig.link("api", "redis").pause()
    memories.store(*TEXTS)
    rig.heal()
    memories.settle()


@pytest.mark.parametrize("away", ["down", "stopped"])
def test_while_chroma_is_away_words_find_and_writes_are_accepted(rig: Rig, memories: Memories, away: str) -> None:
    memories.store(*TEXTS[:3])
    memories.settle()
    if away == "down":
        rig.kill("chroma", restart=False)
    else:
        rig.pause("chroma")
    (late,) = memories.store(TEXTS[3])
    for text in TEXTS[:4]:
        started = time.monotonic()
        found = memories.search(text, mode="hybrid")
        assert time.monotonic() - started < _PATIENCE_S
        assert (found["degraded"], found["degraded_by"]) == (True, ["index_away"])
        assert found["items"][0]["content"] == text
    assert memories.finds(late), "what is not indexed is compared one by one"
    rig.heal()
    memories.settle()
    assert not memories.search(TEXTS[0])["degraded"]


def test_a_chroma_that_lost_everything_is_filled_again_by_itself(rig: Rig, memories: Memories) -> None:
    memories.store(*TEXTS[:3])
    memories.settle()
    before = memories.index()["active"]["id"]
    rig.kill("chroma", restart=False)
    shutil.rmtree(rig.home.path / "chroma")
    rig.heal()
    memories.store(*TEXTS[3:])
    memories.settle()
    assert memories.index()["active"]["id"] == before


@pytest.mark.timeout(400)
def test_each_memory_that_was_acknowledged_is_found_whoever_wrote_and_read_at_the_time(
    rig: Rig, memories: Memories
) -> None:
    texts = sentences(_MANY, seed=2)
    written = threading.Event()

    def write(share: list[str]) -> None:
        for start in range(0, len(share), 50):
            memories.store(*share[start : start + 50])

    def read() -> int:
        asked = 0
        while not written.is_set():
            found = memories.search(texts[asked % _MANY], "hybrid")["items"]
            assert {item["content"] for item in found} <= set(texts)
            asked += 1
        return asked

    with ThreadPoolExecutor(6) as pool:
        readers = [pool.submit(read) for _ in range(2)]
        try:
            for writer in [pool.submit(write, texts[start::4]) for start in range(4)]:
                writer.result(180)
        finally:
            written.set()
        assert all(reader.result(30) for reader in readers)
    assert len(memories.stand) == _MANY
    memories.settle(timeout=120)
