"""Sessions and group chats: made, changed, closed, and kept as long as something refers to them."""

from __future__ import annotations

from typing import Any

import pytest

from app import agents, groupchats, sessions
from app.db import transaction
from app.errors import Conflict, Invalid, NotFound
from app.memory.store import store
from tests.fleet import a_step, post_flow
from tests.integration.memory.hands import new as a_memory
from tests.integration.messages.hands import a_chat, a_session, do, some_agents, write
from tests.support import OWNER, Aside, eventually, post_one, scalar

pytestmark = pytest.mark.usefixtures("clawq")


def test_a_session_is_closed_once_and_stays_so() -> None:
    session = do(sessions.create, OWNER, session_type="chat", user_id="grace", details={"n": 1})
    assert (session.status, session.closed_at, session.details) == ("active", None, {"n": 1})
    closed = do(sessions.close, session.id, OWNER)
    assert (closed.status, closed.closed_at) == ("closed", closed.updated_at)
    again = do(sessions.close, session.id, OWNER)
    assert (again.closed_at, again.updated_at) == (closed.closed_at, closed.updated_at)


def test_an_update_moves_only_what_is_named() -> None:
    session = do(sessions.create, OWNER, session_type="chat", user_id="grace", details={"n": 1})
    changed = do(sessions.update, session.id, OWNER, details=None)
    assert (changed.details, changed.user_id, changed.session_type) == (None, "grace", "chat")
    assert changed.updated_at > session.updated_at
    a, b = some_agents(2)
    chat = do(groupchats.create, OWNER, name="team", agents=[a], description="d")
    changed = do(groupchats.update, chat.id, OWNER, agents=[b, a])
    assert (changed.agents, changed.name, changed.description, changed.status) == ([b, a], "team", "d", "active")


@pytest.mark.parametrize("what", ["task", "workflow", "message", "memory"])
def test_a_session_that_something_belongs_to_stays(what: str) -> None:
    session, free = a_session(), a_session()
    if what == "task":
        post_one(session_id=session)
    elif what == "workflow":
        post_flow(a_step("a"), session_id=session)
    elif what == "message":
        write(*some_agents(2), session_id=session)
    else:
        do(store, OWNER, [a_memory("Tea.", session_id=session)])
    with pytest.raises(Conflict):
        do(sessions.delete, session, OWNER)
    do(sessions.delete, free, OWNER)
    for verb in (sessions.get, sessions.close, sessions.update, sessions.delete):
        with pytest.raises(NotFound):
            do(verb, free, OWNER)


def test_a_group_chat_that_was_written_to_stays() -> None:
    a, b = some_agents(2)
    chat, free = a_chat(a, b), a_chat(a)
    write(a, groupchat_id=chat)
    with pytest.raises(Conflict):
        do(groupchats.delete, chat, OWNER)
    do(groupchats.delete, free, OWNER)
    for verb in (groupchats.get, groupchats.update, groupchats.delete):
        with pytest.raises(NotFound):
            do(verb, free, OWNER)


def test_members_must_be_there() -> None:
    (a,) = some_agents(1)
    chat = a_chat(a)
    for verb, args in ((groupchats.create, ()), (groupchats.update, (chat,))):
        with pytest.raises(NotFound) as caught:
            do(verb, *args, OWNER, **{"name": "n", "agents": [a, "nobody", "none"]})
        assert [problem.loc for problem in caught.value.problems] == [("agents", 1), ("agents", 2)]
    assert scalar("SELECT name FROM groupchats") == "team"


@pytest.mark.parametrize("what", ["a member", "a sender", "a receiver", "one that remembers"])
def test_an_agent_that_is_referred_to_stays(what: str) -> None:
    a, b, free = some_agents(3)
    if what == "a member":
        a_chat(b, a)
    elif what == "one that remembers":
        do(store, OWNER, [a_memory("Tea.", agent_id=a)])
    else:
        write(*((a, b) if what == "a sender" else (b, a)))
    with pytest.raises(Conflict):
        do(agents.delete, a)
    do(agents.delete, free)


def test_an_agent_that_is_about_to_become_a_member_is_not_removed() -> None:
    a, b = some_agents(2)
    with transaction() as db:
        groupchats.create(db, OWNER, name="team", agents=[a])
        remover = Aside(lambda db: agents.delete(db, a))
        eventually(remover.is_blocked)
    with pytest.raises(Conflict):
        remover.join()
    with transaction() as db:
        agents.delete(db, b)
        maker = Aside(lambda db: groupchats.create(db, OWNER, name="team", agents=[b]))
        eventually(maker.is_blocked)
    with pytest.raises(NotFound):
        maker.join()


def pages(find: Any, wanted: Any) -> list[str]:
    seen, cursor = [], None
    while True:
        found, cursor = do(find, wanted, cursor, 2)
        seen += [row.id for row in found]
        if cursor is None:
            return seen


def test_sessions_and_group_chats_are_found_page_by_page() -> None:
    (a,) = some_agents(1)
    mine = [a_session(user_id="grace") for _ in range(5)]
    theirs = a_session(owner="bob", session_type="call")
    do(sessions.close, mine[0], OWNER)
    assert pages(sessions.find, sessions.Filter(owner=OWNER)) == mine[::-1]
    assert pages(sessions.find, sessions.Filter()) == [theirs, *mine[::-1]]
    assert pages(sessions.find, sessions.Filter(status="closed", user_id="grace")) == mine[:1]
    assert pages(sessions.find, sessions.Filter(session_type="call")) == [theirs]
    chats = [a_chat(a, name=name) for name in "xyz"]
    other = a_chat(a, owner="bob")
    assert pages(groupchats.find, groupchats.Filter(owner=OWNER)) == chats[::-1]
    assert pages(groupchats.find, groupchats.Filter(name="y")) == chats[1:2]
    do(groupchats.update, other, None, status="closed")
    assert pages(groupchats.find, groupchats.Filter(status="closed")) == [other]
    for find, wanted in ((sessions.find, sessions.Filter()), (groupchats.find, groupchats.Filter())):
        with pytest.raises(Invalid):
            do(find, wanted, "nonsense", 2)


def test_another_owner_s_session_or_group_chat_is_not_there() -> None:
    (a,) = some_agents(1)
    for verbs, thing in (
        ((sessions.get, sessions.update, sessions.close, sessions.delete), a_session()),
        ((groupchats.get, groupchats.update, groupchats.delete), a_chat(a)),
    ):
        for verb in verbs:
            with pytest.raises(NotFound):
                do(verb, thing, "bob")
        assert do(verbs[0], thing, None).status == "active"


def test_another_owner_s_session_or_group_chat_is_not_waited_for() -> None:
    (a,) = some_agents(1)
    for get, verbs, thing in (
        (sessions.get, (sessions.close, sessions.delete), a_session(owner="bob")),
        (groupchats.get, (groupchats.delete,), a_chat(a, owner="bob")),
    ):
        with transaction() as db:
            get(db, thing, "bob", hold=True)
            for verb in verbs:
                with pytest.raises(NotFound):
                    do(verb, thing, OWNER)
