"""`clawq messages`: what is asked of the API, and what is shown."""

from __future__ import annotations

import json
import sys
from io import BytesIO, TextIOWrapper
from typing import Any

import pytest

from app.cli import messages, stream
from app.cli.client import ApiError, Away, Busy
from tests.unit.cli.conftest import Cli
from tests.unit.cli.scripted import Scripted

MESSAGE = {
    "id": "m1", "owner": "ada", "source_agent_id": "a", "destination_agent_id": "b", "groupchat_id": None,
    "post_id": None, "session_id": None, "message_type": "text", "content": "Tea?\nNow.\x1b[2J", "metadata": {"n": 1},
    "status": "sent", "seq": 3, "created_at": "2030-01-01T00:00:00Z", "sent_at": None, "received_at": None,
}  # fmt: skip
POST = MESSAGE | {"id": "p1", "destination_agent_id": None, "groupchat_id": "g"}


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Scripted:
    """An API that answers what a test says."""
    return Scripted(monkeypatch, capsys)


def test_a_message_is_sent_with_all_that_is_said_of_it(api: Scripted) -> None:
    api.answer = lambda *_: MESSAGE
    options = ("--from", "a", "--to", "b", "--type", "question", "--session", "s", "--metadata", '{"n": 1}')
    assert api.run("messages", "send", "Tea?", *options) == 0
    body = {
        "source_agent_id": "a", "destination_agent_id": "b", "message_type": "question", "content": "Tea?",
        "session_id": "s", "metadata": {"n": 1},
    }  # fmt: skip
    assert api.asked == [("POST", "/messages", body)]
    assert tuple(api.shown()) == ("m1\n", "")


def test_a_text_for_a_group_chat_comes_from_standard_input(api: Scripted, monkeypatch: pytest.MonkeyPatch) -> None:
    api.answer = lambda *_: POST
    monkeypatch.setattr(sys, "stdin", TextIOWrapper(BytesIO(b"one\ntwo\n")))
    assert api.run("messages", "send", "-", "--from", "a", "--groupchat", "g", "--json") == 0
    body = {"source_agent_id": "a", "groupchat_id": "g", "message_type": "text", "content": "one\ntwo"}
    assert api.asked == [("POST", "/messages", body)]
    assert json.loads(api.shown().out) == POST


@pytest.mark.parametrize("whereto", [(), ("--to", "b", "--groupchat", "g")])
def test_a_message_goes_one_way(cli: Cli, whereto: tuple[str, ...]) -> None:
    assert "--to" in cli.refuses("messages", "send", "Tea?", "--from", "a", *whereto)


def test_a_list_is_a_table(api: Scripted) -> None:
    api.answer = lambda *_: {"items": [POST, MESSAGE], "next_cursor": "x"}
    options = ("--from", "a", "--to", "b", "--groupchat", "g", "--session", "s", "--status", "sent", "--post", "p")
    assert api.run("messages", "list", *options) == 0
    wanted = {
        "source_agent_id": "a", "destination_agent_id": "b", "groupchat_id": "g", "session_id": "s", "status": "sent",
        "post_id": "p", "limit": 20,
    }  # fmt: skip
    assert api.asked == [("GET", "/messages", wanted)]
    shown = api.shown()
    assert [line.split()[:4] for line in shown.out.splitlines()[1:]] == [
        ["p1", "sent", "a", "g"],
        ["m1", "sent", "a", "b"],
    ]
    assert "There are more" in shown.err


def test_a_message_is_shown_with_its_lines_and_without_a_terminal_s_language(api: Scripted) -> None:
    api.answer = lambda *_: MESSAGE
    assert api.run("messages", "show", "m1") == 0
    out = api.shown().out
    assert out.endswith("\nTea?\nNow. [2J\n")
    assert 'metadata             {"n": 1}\n' in out
    assert "post_id" not in out


def page(*seqs: int, more: bool = False) -> dict[str, Any]:
    """A page of an inbox."""
    return {"items": [MESSAGE | {"seq": seq} for seq in seqs], "next_cursor": str(seqs[-1]) if more else None}


def test_an_inbox_is_read_to_its_end(api: Scripted) -> None:
    pages = iter([page(3, 4, more=True), page(6)])
    api.answer = lambda *_: next(pages)
    assert api.run("messages", "inbox", "b", "--after", "2") == 0
    assert api.asked == [("GET", "/agents/b/inbox", {"after": after, "limit": 1000}) for after in (2, 4)]
    rows = api.shown().out.splitlines()
    assert [line.split() for line in rows] == [[n, "a", "m1", "Tea?", "Now.", "[2J"] for n in ("3", "4", "6")]


def test_who_follows_an_inbox_sees_each_message_once_and_waits_for_the_next(
    api: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    pages = iter([page(1, 2, more=True), page(3), page(), page(5)])
    rests: list[float] = []
    monkeypatch.setattr(messages.time, "sleep", rests.append)

    def answer(*_: Any) -> Any:
        try:
            return next(pages)
        except StopIteration:
            raise ApiError("The API has gone.") from None

    api.answer = answer
    assert api.run("messages", "inbox", "b", "--follow", "--json") == 1
    shown = api.shown()
    assert [json.loads(line)["seq"] for line in shown.out.splitlines()] == [1, 2, 3, 5]
    assert "The API has gone" in shown.err
    asked = [(given["after"], given.get("wait")) for _, _, given in api.asked]
    # What is left of a page is asked for at once.
    assert asked == [(0, 30), (2, None), (3, 30), (3, 30), (5, 30)]
    assert len(rests) == 1, "an answer that comes at once and brings nothing"


def test_who_follows_an_inbox_waits_for_an_api_that_is_away(api: Scripted, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = [
        page(1, 2, more=True),
        Away("silence"),
        Busy("not now"),
        page(3),
        Away("silence"),
        page(4),
        ApiError("No."),
    ]
    rests: list[float] = []
    monkeypatch.setattr(messages.time, "sleep", rests.append)

    def answer(*_: Any) -> Any:
        found = answers.pop(0)
        if isinstance(found, ApiError):
            raise found
        return found

    api.answer = answer
    assert api.run("messages", "inbox", "b", "--follow", "--json") == 1
    shown = api.shown()
    assert [json.loads(line)["seq"] for line in shown.out.splitlines()] == [1, 2, 3, 4]
    assert "No." in shown.err
    assert [given["after"] for _, _, given in api.asked] == [0, 2, 2, 2, 3, 3, 4]
    # Each time anew: at once, then less often.
    assert rests == [0.0, 0.1, 0.0]


def test_who_follows_an_inbox_gives_silence_up(api: Scripted, monkeypatch: pytest.MonkeyPatch) -> None:
    def silent(*_: Any) -> Any:
        raise Away("silence")

    api.answer = silent
    monkeypatch.setattr(stream, "_PATIENCE_S", -1)
    assert api.run("messages", "inbox", "b", "--follow") == 1
    assert "silence" in api.shown().err


def test_messages_are_acknowledged_one_by_one(api: Scripted) -> None:
    api.answer = lambda *_: MESSAGE
    assert api.run("messages", "ack", "m1", "m2") == 0
    assert api.asked == [("POST", "/messages/m1/ack", None), ("POST", "/messages/m2/ack", None)]
    assert api.shown().out == "2 messages are acknowledged.\n"
    assert api.run("messages", "ack", "m1", "--json") == 0
    assert json.loads(api.shown().out) == MESSAGE


@pytest.mark.parametrize("argv", [("show", "../keys"), ("inbox", "../keys"), ("ack", "..")])
def test_an_id_that_is_none_is_refused(cli: Cli, argv: tuple[str, ...]) -> None:
    assert "is no id" in cli.refuses("messages", *argv)
