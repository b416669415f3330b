"""Models of messages, sessions and group chats: what is accepted, what is refused and where."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import BaseModel
from werkzeug.datastructures import MultiDict

from api.payloads.groupchats import MOST_MEMBERS, GroupChatIn, GroupChatPatchIn
from api.payloads.messages import MAX_CONTENT_BYTES, InboxQuery, MessageIn, MessageListQuery
from api.payloads.sessions import SessionIn, SessionPatchIn
from api.requests import parse_body, parse_query
from app.errors import Invalid
from app.messages.find import Filter

LETTER = {"source_agent_id": "a", "destination_agent_id": "b", "message_type": "text", "content": "Tea?"}


def parse(model: type[BaseModel], body: dict[str, Any]) -> Any:
    return parse_body(model, json.dumps(body).encode())


def locs(model: type[BaseModel], body: dict[str, Any]) -> list[tuple[str | int, ...]]:
    with pytest.raises(Invalid) as caught:
        parse(model, body)
    return [problem.loc for problem in caught.value.problems]


@pytest.mark.parametrize("content", ["x" * MAX_CONTENT_BYTES, "ü" * (MAX_CONTENT_BYTES // 2)])
def test_a_text_may_have_as_many_bytes_as_are_told(content: str) -> None:
    assert parse(MessageIn, LETTER | {"content": content}).to_new_message().content == content
    assert locs(MessageIn, LETTER | {"content": content + "x"}) == [("content",)]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("content", ""), ("content", 3), ("content", "\0"), ("message_type", ""), ("message_type", "x" * 51),
        ("source_agent_id", ""), ("metadata", []), ("metadata", {"x": "x" * 16 * 1024}), ("status", "sent"),
    ],
)  # fmt: skip
def test_a_message_that_is_not_one_is_refused(field: str, value: Any) -> None:
    assert locs(MessageIn, LETTER | {field: value}) == [(field,)]


@pytest.mark.parametrize("whereto", [{}, {"destination_agent_id": "b", "groupchat_id": "g"}])
def test_a_message_goes_one_way(whereto: dict[str, str]) -> None:
    assert locs(MessageIn, {k: v for k, v in LETTER.items() if k != "destination_agent_id"} | whereto) == [()]


def test_members_are_named_once_and_bounded() -> None:
    many = [f"a{n}" for n in range(MOST_MEMBERS)]
    assert parse(GroupChatIn, {"name": "team", "agents": many}).agents == many
    for agents in ([], ["a", "a"], [*many, "one more"], [""], "a", None):
        assert locs(GroupChatIn, {"name": "team", "agents": agents})
        assert locs(GroupChatPatchIn, {"agents": agents})


def test_a_change_is_what_is_given_and_nothing_else() -> None:
    assert parse(SessionPatchIn, {}).values == {}
    assert parse(SessionPatchIn, {"metadata": None, "user_id": None}).values == {"details": None, "user_id": None}
    assert parse(SessionIn, {"session_type": "chat"}).values == {"session_type": "chat"}
    assert locs(SessionPatchIn, {"session_type": None}) == [("session_type",)]
    assert locs(SessionPatchIn, {"status": "closed"}) == [("status",)]


def test_copies_are_listed_where_a_destination_or_a_post_is_named() -> None:
    def wanted(**given: str) -> Filter:
        query = parse_query(MessageListQuery, MultiDict(given))
        assert isinstance(query, MessageListQuery)
        return query.wanted("ada")

    assert wanted(source_agent_id="a", status="sent") == Filter(owner="ada", source_agent_id="a", status="sent")
    assert not wanted(source_agent_id="a", groupchat_id="g", session_id="s").copies
    assert wanted(destination_agent_id="a").copies
    assert wanted(post_id="p").copies


@pytest.mark.parametrize("given", [{"after": "-1"}, {"wait": "61"}, {"wait": "nan"}, {"limit": "0"}, {"cursor": "x"}])
def test_an_inbox_is_asked_for_within_bounds(given: dict[str, str]) -> None:
    with pytest.raises(Invalid):
        parse_query(InboxQuery, MultiDict(given))
