"""Sending: what is accepted, what is refused, and what waits for whom."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy.exc import IntegrityError

from app import agents, groupchats, publisher, sessions
from app.db import transaction
from app.errors import Conflict, NotFound
from app.messages.send import send
from app.queues import ADMIT, DELIVER, Queue
from tests.integration.messages.hands import a_chat, a_session, copies, do, message, new, some_agents, write
from tests.support import OWNER, Aside, envelopes, eventually, scalar, sql

pytestmark = pytest.mark.usefixtures("clawq")


def test_a_letter_is_pending_until_the_gateway_has_it_and_rings_for_that() -> None:
    a, b = some_agents(2)
    session = a_session()
    sent = do(send, OWNER, new(a, b, content="Tea?", metadata={"n": 1}, session_id=session))
    assert (sent.owner, sent.source_agent_id, sent.destination_agent_id) == (OWNER, a, b)
    assert (sent.status, sent.seq, sent.sent_at, sent.content, sent.details) == (
        "pending",
        None,
        None,
        "Tea?",
        {"n": 1},
    )
    assert (sent.session_id, sent.groupchat_id, sent.post_id) == (session, None, None)
    write(a, b)
    assert envelopes("gateway") == [(DELIVER, [])], "many rings make one envelope"


def test_the_bell_for_messages_and_that_for_tasks_do_not_silence_each_other() -> None:
    publisher.ring()
    publisher.ring_deliverer()
    publisher.answer(Queue.GATEWAY)
    publisher.ring_deliverer()
    publisher.ring()
    publisher.answer(Queue.GATEWAY, publisher.MESSAGES)
    publisher.ring_deliverer()
    assert envelopes("gateway") == [(ADMIT, []), (DELIVER, []), (ADMIT, []), (DELIVER, [])]


def test_messages_are_numbered_as_they_are_accepted() -> None:
    a, b, c = some_agents(3)
    ids = [write(a, b), write(a, groupchat_id=a_chat(a, b, c)), write(c, b)]
    numbers = [message(one).position for one in ids]
    assert numbers == sorted(numbers)
    assert all(numbers[1] < copy.position < numbers[2] for copy in copies(ids[1]).values())


def test_a_post_has_a_copy_for_each_member_but_the_sender() -> None:
    a, b, c, outsider = some_agents(4)
    chat, session = a_chat(a, b, c), a_session()
    post = write(a, groupchat_id=chat, content="All!", metadata={"n": 1}, session_id=session)
    found = copies(post)
    assert set(found) == {b, c}
    for copy in (message(post), *found.values()):
        assert (copy.groupchat_id, copy.session_id, copy.content, copy.metadata) == (chat, session, "All!", {"n": 1})
        assert (copy.source_agent_id, copy.owner, copy.status) == (a, OWNER, "pending")
    assert message(post).destination_agent_id is None
    assert set(copies(write(outsider, groupchat_id=chat))) == {a, b, c}


def test_a_post_that_nobody_else_is_there_for_has_reached_all() -> None:
    (a,) = some_agents(1)
    post = message(write(a, groupchat_id=a_chat(a)))
    assert (post.status, copies(post.id)) == ("received", {})
    assert post.sent_at == post.received_at == post.created_at


@pytest.mark.parametrize("field", ["source_agent_id", "destination_agent_id", "groupchat_id", "session_id"])
def test_what_a_message_names_must_be_there_and_its_owner_s(field: str) -> None:
    a, b = some_agents(2)
    strangers = {"groupchat_id": a_chat(a, b, owner="bob"), "session_id": a_session(owner="bob")}
    whereto = {"groupchat_id": None, "destination_agent_id": None} if field == "groupchat_id" else {}
    for value in filter(None, ("nobody", strangers.get(field))):
        with pytest.raises(NotFound) as caught:
            write(a, b, **{**whereto, field: value})
        assert [problem.loc for problem in caught.value.problems] == [(field,)]
    assert scalar("SELECT count(*) FROM messages") == 0
    assert envelopes("gateway") == []


def test_what_is_closed_takes_no_messages_and_an_inactive_agent_does() -> None:
    a, b = some_agents(2)
    chat, session = a_chat(a, b), a_session()
    do(groupchats.update, chat, OWNER, status="closed")
    do(sessions.close, session, OWNER)
    for values in ({"destination_agent_id": b, "session_id": session}, {"groupchat_id": chat}):
        with pytest.raises(Conflict, match="closed"):
            write(a, **values)
    do(groupchats.update, chat, OWNER, status="active")
    do(agents.update, b, status="inactive")
    assert write(a, groupchat_id=chat)
    assert write(a, b)


def closing(what: str, thing: str) -> Any:
    return lambda db: (
        sessions.close(db, thing, OWNER) if what == "session" else groupchats.update(db, thing, OWNER, status="closed")
    )


@pytest.mark.parametrize("what", ["session", "groupchat"])
def test_who_closes_waits_for_a_message_that_is_under_way(what: str) -> None:
    a, b = some_agents(2)
    thing = a_session() if what == "session" else a_chat(a, b)
    values = {"destination_agent_id": b, "session_id": thing} if what == "session" else {"groupchat_id": thing}
    with transaction() as db:
        send(db, OWNER, new(a, **values))
        closer = Aside(closing(what, thing))
        eventually(closer.is_blocked)
    assert closer.join().status == "closed"
    with pytest.raises(Conflict):
        write(a, **values)


@pytest.mark.parametrize("what", ["session", "groupchat"])
def test_a_message_waits_for_who_is_closing(what: str) -> None:
    a, b = some_agents(2)
    thing = a_session() if what == "session" else a_chat(a, b)
    values = {"destination_agent_id": b, "session_id": thing} if what == "session" else {"groupchat_id": thing}
    with transaction() as db:
        closing(what, thing)(db)
        sender = Aside(lambda db: send(db, OWNER, new(a, **values)))
        eventually(sender.is_blocked)
    with pytest.raises(Conflict):
        sender.join()


@pytest.mark.parametrize(
    "values",
    [{"destination_agent_id": None}, {"groupchat_id": "g"}, {"groupchat_id": "g", "post_id": "p"}],
    ids=["a letter to nobody", "a post with a destination", "a copy without one"],
)
def test_the_database_itself_refuses_what_is_neither_letter_nor_post(values: dict[str, Any]) -> None:
    a, b = some_agents(2)
    chat = a_chat(a, b)
    post = write(a, groupchat_id=chat)
    named = {"destination_agent_id": b, "groupchat_id": None, "post_id": None, **values}
    if named["post_id"]:
        named["destination_agent_id"] = None
    named = {name: {"g": chat, "p": post}.get(value, value) for name, value in named.items()}
    with pytest.raises(IntegrityError, match="messages_destination_check"):
        sql(
            """
            INSERT INTO messages (id, owner, source_agent_id, destination_agent_id, groupchat_id, post_id, message_type,
                                  content)
            VALUES ('x', 'ada', :a, :destination_agent_id, :groupchat_id, :post_id, 'text', '')
            """,
            a=a,
            **named,
        )
