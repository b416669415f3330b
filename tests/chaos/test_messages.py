"""Whoever sends, delivers and receives messages is killed: all arrive, in order, and what is acknowledged is over."""

from __future__ import annotations

import os
import random
import secrets
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.chaos.letters import Letters
from tests.chaos.rig import ENGINES, Rig
from tests.support import eventually

#: Read at import: fixtures hide the machine's settings from what they start.
SEED = int(os.environ.get("CLAWQ_CHAOS_SEED") or secrets.randbelow(2**32))
VICTIMS = ("api", "gateway", "gateway", "clock", *ENGINES)
#: Letters of a conversation; posts of a group chat, each of which becomes three letters.
_LETTERS, _POSTS = 100, 50


@pytest.fixture
def letters(rig: Rig) -> Iterator[Letters]:
    """No letters yet."""
    made = Letters(rig)
    made.empty()
    yield made
    made.close()


def kill(rig: Rig, victim: str) -> None:
    """SIGKILL, and a start."""
    if victim in ENGINES:
        rig.kill(victim, restart=False)
        rig.start_engine(victim)
    else:
        rig.kill(victim)


@pytest.mark.timeout(300)
def test_a_thousand_letters_arrive_in_order_whoever_is_killed(rig: Rig, letters: Letters) -> None:
    print(f"CLAWQ_CHAOS_SEED={SEED}")
    dice = random.Random(SEED)
    agents = letters.agents(4)
    # Each writes to its neighbour, and to a group chat of all.
    ways = [{"source_agent_id": one, "destination_agent_id": agents[n - 1]} for n, one in enumerate(agents)]
    posts = [{"source_agent_id": one, "groupchat_id": letters.chat(*agents)} for one in agents]
    each = _LETTERS + 3 * _POSTS
    total = len(agents) * each
    assert total == 1000
    with ThreadPoolExecutor(len(ways) + len(posts) + len(agents)) as pool:
        senders = [pool.submit(letters.write, way, _LETTERS) for way in ways]
        senders += [pool.submit(letters.write, post, _POSTS) for post in posts]
        readers = [pool.submit(letters.read, agent, each, random.Random(dice.random())) for agent in agents]
        order = dice.sample(VICTIMS, len(VICTIMS))
        for number, victim in enumerate(order, start=1):
            reached = number * total // (len(order) + 1)
            eventually(lambda reached=reached: letters.received >= reached, timeout=60)
            print(f"{letters.received} received: kill {victim}")
            kill(rig, victim)
        for sender in senders:
            sender.result(120)
        for reader in readers:
            seen = reader.result(120)
            assert sorted(letter["seq"] for letter in seen) == list(range(1, each + 1))
            for way in {(letter["source_agent_id"], letter["groupchat_id"]) for letter in seen}:
                said = [int(m["content"]) for m in seen if (m["source_agent_id"], m["groupchat_id"]) == way]
                assert said == list(range(_POSTS if way[1] else _LETTERS)), way
    # The posts too, for all of their copies are received.
    assert letters.statuses() == [("received", total + _POSTS * len(posts))]


def test_letters_that_nobody_was_rung_for_are_delivered(rig: Rig, letters: Letters) -> None:
    sender, receiver = letters.agents(2)
    with_whom = {"source_agent_id": sender, "destination_agent_id": receiver}
    rig.kill("gateway", "clock", restart=False)
    rig.link("api", "redis").pause()
    letters.write(with_whom, 3)
    rig.heal()
    assert [m["content"] for m in letters.read(receiver, 3, random.Random(SEED))] == ["0", "1", "2"]


@pytest.mark.parametrize("committed", [False, True], ids=["before the commit", "after it"])
def test_a_gateway_killed_as_it_delivers_leaves_no_gap_and_no_repeat(
    rig: Rig, letters: Letters, committed: bool
) -> None:
    sender, receiver = letters.agents(2)
    link = rig.link("gateway", "postgres")
    link.trap(b"EXECUTE clawq_deliver_number", b"COMMIT", deliver=committed)
    letters.write({"source_agent_id": sender, "destination_agent_id": receiver}, 3)
    link.await_sprung()
    rig.kill("gateway")
    link.cut()
    seen = letters.read(receiver, 3, random.Random(SEED))
    assert [(m["seq"], m["content"]) for m in seen] == [(1, "0"), (2, "1"), (3, "2")]
