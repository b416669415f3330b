"""Inboxes: a letter is shown again and again until it is acknowledged; lists and what they leave out."""

from __future__ import annotations

import pytest

from app.db import transaction
from app.errors import Conflict, Invalid, NotFound
from app.messages import find
from app.messages.acknowledge import acknowledge
from tests.integration.messages.hands import (
    a_chat,
    a_session,
    acknowledged,
    copies,
    deliver,
    do,
    inbox,
    message,
    some_agents,
    write,
)
from tests.support import OWNER, Aside, eventually

pytestmark = pytest.mark.usefixtures("clawq")


def test_a_letter_is_shown_until_it_is_acknowledged() -> None:
    a, b = some_agents(2)
    ids = [write(a, b) for _ in range(3)]
    assert inbox(b) == []
    deliver()
    assert inbox(b) == inbox(b) == list(enumerate(ids, start=1))
    acknowledged(ids[1])
    assert inbox(b) == [(1, ids[0]), (3, ids[2])]
    assert inbox(b, after=1) == [(3, ids[2])]
    assert message(ids[1]).received_at >= message(ids[1]).sent_at
    acknowledged(ids[0], ids[2])
    assert inbox(b) == []
    ids.append(write(a, b))
    deliver()
    assert inbox(b) == [(4, ids[3])]


def test_acknowledging_twice_is_harmless() -> None:
    a, b = some_agents(2)
    letter = write(a, b)
    deliver()
    acknowledged(letter)
    once = message(letter)
    acknowledged(letter)
    assert message(letter) == once


def test_what_is_in_no_inbox_cannot_be_acknowledged() -> None:
    a, b = some_agents(2)
    letter, post = write(a, b), write(a, groupchat_id=a_chat(a, b))
    for one in (letter, post):
        with pytest.raises(Conflict):
            acknowledged(one)
    deliver()
    with pytest.raises(Conflict, match="copy by copy"):
        acknowledged(post)
    with pytest.raises(NotFound):
        acknowledged("nothing")


def test_a_post_is_received_once_all_of_its_copies_are() -> None:
    a, b, c = some_agents(3)
    post = write(a, groupchat_id=a_chat(a, b, c))
    deliver()
    for receiver, status in ((b, "sent"), (c, "received")):
        assert inbox(receiver) == [(1, copies(post)[receiver].id)]
        acknowledged(copies(post)[receiver].id)
        assert message(post).status == status
    assert message(post).received_at >= max(copy.received_at for copy in copies(post).values())


def test_of_two_that_acknowledge_copies_at_once_the_later_sees_that_all_are_received() -> None:
    a, b, c = some_agents(3)
    post = write(a, groupchat_id=a_chat(a, b, c))
    deliver()
    first, second = (copies(post)[one].id for one in (b, c))
    with transaction() as db:
        acknowledge(db, first)
        other = Aside(lambda db: acknowledge(db, second))
        eventually(lambda: other.is_blocked() or other.is_over())
    other.join()
    assert message(post).status == "received"


def test_an_inbox_is_read_page_by_page() -> None:
    a, b = some_agents(2)
    ids = [write(a, b) for _ in range(5)]
    deliver()
    acknowledged(ids[2])
    seen, after = [], "0"
    while after is not None:
        page, after = do(find.inbox, OWNER, b, int(after), 2)
        seen += [row.id for row in page]
        assert len(page) <= 2
    assert seen == [ids[0], ids[1], ids[3], ids[4]]
    assert do(find.has_letters, OWNER, b, 4)
    assert not do(find.has_letters, OWNER, b, 5)
    assert not do(find.has_letters, "bob", b, 0)


def test_a_page_ends_where_letters_are_heavy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.tasks.find.MOST_BYTES", 150)
    a, b = some_agents(2)
    ids = [write(a, b, content=content) for content in ("x" * 100, "y" * 100, "z" * 500)]
    deliver()
    for after, one in enumerate(ids):
        page, more = do(find.inbox, OWNER, b, after, 10)
        assert ([row.id for row in page], more) == ([one], None if after == 2 else str(after + 1))
    page, cursor = do(find.find, find.Filter(owner=OWNER), None, 10)
    assert [row.id for row in page] == [ids[2]]
    assert [row.id for row in do(find.find, find.Filter(owner=OWNER), cursor, 10)[0]] == [ids[1]]


def test_lists_are_as_posted_and_copies_are_found_by_whom_they_go_to_or_by_their_post() -> None:
    a, b, c = some_agents(3)
    chat, session = a_chat(a, b, c), a_session()
    letter, post, other = write(a, b), write(a, groupchat_id=chat, session_id=session), write(b, a)
    theirs = write(a, b, owner="bob")
    to_b, to_c = (copies(post)[one].id for one in (b, c))

    def listed(owner: str | None = OWNER, **wanted: str) -> list[str]:
        return [row.id for row in do(find.find, find.Filter(owner=owner, **wanted), None, 100)[0]]

    assert listed() == [other, post, letter]
    assert listed(None) == [theirs, other, post, letter]
    assert listed(source_agent_id=a) == [post, letter]
    assert set(listed(destination_agent_id=b)) == {letter, to_b}
    assert listed(groupchat_id=chat) == listed(session_id=session) == [post]
    assert set(listed(post_id=post)) == {to_b, to_c}
    deliver()
    assert listed(status="pending") == []
    assert listed(status="sent") == [other, post, letter]
    acknowledged(letter)
    assert listed(status="received", destination_agent_id=b) == [letter]
    with pytest.raises(Invalid):
        do(find.find, find.Filter(), "nonsense", 10)


def test_another_owner_s_message_is_not_there() -> None:
    a, b = some_agents(2)
    letter = write(a, b)
    assert do(find.get, letter, OWNER).id == do(find.get, letter, None).id == letter
    for one, owner in ((letter, "bob"), ("nothing", OWNER)):
        with pytest.raises(NotFound):
            do(find.get, one, owner)
