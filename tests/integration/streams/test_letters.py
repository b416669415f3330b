"""Letters in a stream: each is told until it is acknowledged, and no more than a follower can have open."""

from __future__ import annotations

from typing import Any

import pytest

from app.db import single, transaction
from app.keys import Caller
from app.messages.acknowledge import acknowledge
from app.messages.deliver import deliver
from app.messages.send import NewMessage, send
from app.streams import letters as letters_
from app.streams.letters import Letters
from app.streams.stream import Stream
from tests.support import OWNER, employ, sql

pytestmark = pytest.mark.usefixtures("clawq")


@pytest.fixture
def agents(clawq: pytest.MonkeyPatch) -> tuple[str, str]:
    """A sender and a receiver."""
    return employ(agent_id="sender"), employ(agent_id="receiver")


def write(count: int, owner: str = OWNER) -> list[str]:
    """Letters from the sender to the receiver, delivered; returns their ids."""
    ids = []
    for n in range(count):
        with transaction() as db:
            new = NewMessage(
                source_agent_id="sender",
                destination_agent_id="receiver",
                groupchat_id=None,
                session_id=None,
                message_type="text",
                content=str(n),
                metadata=None,
            )
            ids.append(send(db, owner, new).id)
    while True:
        with transaction() as db:
            if not deliver(db):
                return ids


def look(letters: Letters) -> list[tuple[str, bool]]:
    """Ids of what a look finds, and whether each was told before."""
    with single() as db:
        found = [(row.id, again) for row, again in letters.look(db)]
    letters.keep()
    return found


def acknowledged(message_id: str) -> None:
    """Acknowledge a letter."""
    with transaction() as db:
        acknowledge(db, message_id)


def test_a_letter_is_told_once_and_then_again_until_it_is_acknowledged(agents: Any, clawq: pytest.MonkeyPatch) -> None:
    letters = Letters(OWNER, "receiver")
    first, second = write(2)
    assert look(letters) == [(first, False), (second, False)]
    assert look(letters) == []
    acknowledged(first)
    clawq.setattr(letters_.time, "monotonic", lambda: 10**9)
    assert look(letters) == [(second, True)]
    assert look(letters) == []
    acknowledged(second)
    clawq.setattr(letters_.time, "monotonic", lambda: 2 * 10**9)
    assert look(letters) == []
    assert letters.due_at is None


def test_a_look_that_was_not_kept_has_not_happened(agents: Any) -> None:
    letters = Letters(OWNER, "receiver")
    (only,) = write(1)
    with single() as db:
        letters.look(db)
    assert look(letters) == [(only, False)]


def test_who_connects_again_gets_what_it_has_not_acknowledged(agents: Any) -> None:
    first, second = write(2)
    look(Letters(OWNER, "receiver"))
    acknowledged(first)
    assert look(Letters(OWNER, "receiver")) == [(second, False)]


def test_no_more_are_told_than_may_be_open(agents: Any, clawq: pytest.MonkeyPatch) -> None:
    clawq.setattr(letters_, "MOST_OPEN", 3)
    clawq.setattr(letters_, "_LIMIT", 2)
    ids = write(5)
    letters = Letters(OWNER, "receiver")
    assert look(letters) == [(ids[0], False), (ids[1], False)]
    assert letters.more
    assert look(letters) == [(ids[2], False)]
    assert not letters.more
    assert look(letters) == []
    acknowledged(ids[1])
    assert look(letters) == [(ids[3], False)]
    for one in (ids[0], ids[2]):
        acknowledged(one)
    assert look(letters) == [(ids[4], False)]


def test_an_owner_s_letters_are_its_own_for_administrators_too(agents: Any) -> None:
    ours = write(1)
    write(1, owner="bob")
    root = Caller(key_id="r", owner=OWNER, scopes=frozenset({"admin"}))
    with single() as db:
        items = Stream("agent", "receiver", root, None).look(db)
    assert [item.letter.id for item in items if item.letter] == ours


def test_a_stream_of_letters_has_the_cursor_of_its_events(agents: Any) -> None:
    write(1)
    with single() as db:
        (item,) = Stream("agent", "receiver", Caller("k", OWNER, frozenset()), None).look(db)
    assert item.cursor == "0-0"
    with single() as db:
        Stream("agent", "receiver", Caller("k", OWNER, frozenset()), item.cursor).check(db)
    assert sql("SELECT status FROM messages WHERE seq = 1")[0].status == "sent"
