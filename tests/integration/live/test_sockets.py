"""Sockets: who may open one, what it answers, and that it tells all that happens, once and in order."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from sqlalchemy.exc import OperationalError
from websockets.exceptions import InvalidStatus

from api.closing import closing
from api.live import connection, feed
from app import tickets
from app.db import transaction
from app.keys import revoke
from app.messages.deliver import deliver
from app.streams.stream import Stream
from app.tasks.report import report
from schema.tasks import EventKind
from tests.integration.live.conftest import Client
from tests.support import SUCCEEDED, employ, end, post_one, put, row, running, scalar, sql

Opener = Callable[..., Client]


def test_a_key_is_said_first(open_socket: Opener, key: Callable[..., str]) -> None:
    client = open_socket()
    assert client.ask({"op": "auth", "key": key(), "ref": 7}) == {"type": "ack", "ref": 7, "owner": "ada"}
    assert client.ask({"op": "ping", "ref": "p"}) == {"type": "ack", "ref": "p"}
    refused = client.ask({"op": "auth", "key": key("bob")})
    assert (refused["type"], refused["code"]) == ("error", "conflict")


@pytest.mark.parametrize("first", [{"op": "ping"}, {"op": "auth", "key": "clawq_x"}, {"op": "auth", "ticket": "x"}])
def test_who_says_anything_else_is_shown_out(open_socket: Opener, first: Any) -> None:
    client = open_socket()
    refused = client.ask(first)
    assert (refused["type"], refused["code"]) == ("error", "unauthorized")
    assert client.end()[0] == 1008


def test_who_says_nothing_is_shown_out(open_socket: Opener, clawq: pytest.MonkeyPatch) -> None:
    clawq.setattr(connection, "AUTH_S", 0.05)
    assert open_socket().end()[0] == 1008


def test_a_ticket_opens_one_socket(open_socket: Opener, key: Callable[..., str], port: int) -> None:
    text = key()
    issued = httpx.post(
        f"http://127.0.0.1:{port}/api/v1/ws-tickets", json={}, headers={"Authorization": f"Bearer {text}"}
    )
    assert issued.status_code == 201
    ticket = issued.json()["ticket"]
    assert ticket not in str(sql("SELECT * FROM ws_tickets"))
    assert open_socket().ask({"op": "auth", "ticket": ticket})["owner"] == "ada"
    assert open_socket().ask({"op": "auth", "ticket": ticket})["code"] == "unauthorized"


def test_a_ticket_expires_and_goes_with_its_key(open_socket: Opener, key: Callable[..., str]) -> None:
    key()
    key_id = scalar("SELECT id FROM api_keys")
    with transaction() as db:
        expired, _ = tickets.issue(db, key_id)
    sql("UPDATE ws_tickets SET expires_at = now()")
    assert open_socket().ask({"op": "auth", "ticket": expired})["code"] == "unauthorized"
    with transaction() as db:
        orphan, _ = tickets.issue(db, key_id)
        revoke(db, key_id)
    assert open_socket().ask({"op": "auth", "ticket": orphan})["code"] == "unauthorized"


def test_a_page_of_elsewhere_may_not_open_one(open_socket: Opener, port: int, clawq: pytest.MonkeyPatch) -> None:
    with pytest.raises(InvalidStatus) as refused:
        open_socket(origin="https://elsewhere.example")
    assert refused.value.response.status_code == 403
    open_socket(origin=f"http://127.0.0.1:{port}")


def test_what_is_not_a_socket_is_told_so(port: int) -> None:
    assert httpx.get(f"http://127.0.0.1:{port}/ws").status_code == 400
    assert httpx.get(f"http://127.0.0.1:{port}/health").status_code == 200


@pytest.mark.parametrize(
    "frame",
    ["", "x", "[]", "1", "{}", '{"op":"fly"}', '{"op":"ping","more":1}', '{"op":"subscribe"}', '{"op":"ping"', b"\0"]
    + [
        json.dumps(frame)
        for frame in (
            {"op": "subscribe", "task_id": "a", "workflow_id": "b"},
            {"op": "subscribe", "task_id": "a", "after": -1},
            {"op": "subscribe", "task_id": "a", "after": "1-2"},
            {"op": "subscribe", "task_id": ""},
            {"op": "submit", "task": {"task_type": "echo"}},
            {"op": "submit", "task": {"task_type": "none", "payload": {}}},
            {"op": "cancel", "task_id": 5},
            {"op": "ping", "ref": {"a": 1}},
            {"op": "ping", "ref": "\0"},
        )
    ],
)
def test_a_frame_that_is_no_good_changes_nothing(enter: Opener, frame: Any) -> None:
    client = enter()
    assert client.ask(frame)["type"] == "error"
    assert client.ask({"op": "ping"}) == {"type": "ack"}
    assert sql("SELECT 1 FROM tasks") == []


def test_a_task_is_submitted_and_cancelled(enter: Opener) -> None:
    client = enter()
    accepted = client.ask({"op": "submit", "task": {"task_type": "echo", "payload": {"a": 1}}, "ref": "one"})
    assert accepted == {"type": "ack", "ref": "one", "task_id": accepted["task_id"], "status": "pending"}
    assert row(accepted["task_id"]).payload == {"a": 1}
    cancelled = client.ask({"op": "cancel", "task_id": accepted["task_id"]})
    assert cancelled == {"type": "ack", "task_id": accepted["task_id"], "status": "cancelled"}


def test_a_repeated_submit_creates_nothing(enter: Opener) -> None:
    client = enter()
    frame = {"op": "submit", "task": {"task_type": "echo", "payload": {}}, "idempotency_key": "once"}
    assert client.ask(frame) == client.ask(frame)
    other = client.ask(frame | {"task": {"task_type": "echo", "payload": {"b": 2}}})
    assert other["code"] == "idempotency_mismatch"
    assert scalar("SELECT count(*) FROM tasks") == 1


def test_a_key_that_may_only_read(enter: Opener) -> None:
    client = enter("ada", "read")
    assert client.ask({"op": "submit", "task": {"task_type": "echo", "payload": {}}})["code"] == "forbidden"
    assert client.ask({"op": "cancel", "task_id": post_one()})["code"] == "forbidden"
    assert client.ask({"op": "subscribe", "task_id": post_one()})["type"] == "ack"


def test_another_owner_s_things_are_not_there(enter: Opener) -> None:
    theirs = post_one(owner="bob")
    client = enter("ada")
    for op in ("subscribe", "cancel"):
        there, nowhere = (client.ask({"op": op, "task_id": an_id}) for an_id in (theirs, "no-such-task"))
        assert there["detail"].replace(theirs, "no-such-task") == nowhere["detail"]
        assert there["code"] == nowhere["code"] == "not_found"
    assert row(theirs).status == "pending"


def test_a_subscriber_is_told_what_was_and_what_comes(enter: Opener) -> None:
    ours = running()
    client = enter()
    assert client.ask({"op": "subscribe", "task_id": ours.id, "ref": "t"}) == {"type": "ack", "ref": "t"}
    heard = client.events(3)
    with transaction() as db:
        report(db, ours.id, ours.attempt, [(EventKind.LOG, {"stream": "stdout", "text": "hello"})])
    end((ours, SUCCEEDED))
    heard += client.events(2)
    assert [frame["kind"] for frame in heard] == ["accepted", "queued", "running", "log", "succeeded"]
    assert [frame["seq"] for frame in heard] == [1, 2, 3, 4, 5]
    assert heard[3] | {"at": ""} == {
        "type": "event",
        "ref": "t",
        "task_id": ours.id,
        "seq": 4,
        "cursor": "4",
        "kind": "log",
        "at": "",
        "attempt": 1,
        "data": {"stream": "stdout", "text": "hello"},
    }


def test_a_subscriber_goes_on_where_it_was(enter: Opener) -> None:
    task_id = put("succeeded")
    client = enter()
    client.ask({"op": "subscribe", "task_id": task_id, "after": 2})
    assert [frame["seq"] for frame in client.events(2)] == [3, 4]
    client.ask({"op": "subscribe", "agent_id": "execution_agent"})
    cursor = client.events(1)[0]["cursor"]
    client.events(2)
    other = enter()
    other.ask({"op": "subscribe", "agent_id": "execution_agent", "after": cursor})
    assert [frame["seq"] for frame in other.events(2)] == [3, 4]


def test_several_things_are_followed_and_one_no_longer(enter: Opener) -> None:
    first, second = running(), running()
    client = enter()
    for ours in (first, second):
        client.ask({"op": "subscribe", "task_id": ours.id, "after": 3, "ref": ours.id})
    assert client.ask({"op": "unsubscribe", "task_id": first.id}) == {"type": "ack"}
    end((first, SUCCEEDED))
    end((second, SUCCEEDED))
    assert [frame["ref"] for frame in client.events(1)] == [second.id]
    assert client.ask({"op": "unsubscribe", "task_id": "never"}) == {"type": "ack"}


def test_nobody_follows_too_much(enter: Opener, clawq: pytest.MonkeyPatch) -> None:
    clawq.setattr(connection, "MOST_STREAMS", 1)
    client = enter()
    first = post_one()
    client.ask({"op": "subscribe", "task_id": first, "after": 1})
    assert client.ask({"op": "subscribe", "task_id": post_one()})["code"] == "conflict"
    assert client.ask({"op": "subscribe", "task_id": first, "after": 1})["type"] == "ack"


def test_what_news_do_not_tell_is_seen_all_the_same(enter: Opener) -> None:
    ours = running()
    client = enter()
    client.ask({"op": "subscribe", "task_id": ours.id, "after": 3})
    # Nobody is told of this.
    sql("INSERT INTO events (task_id, seq, kind, round, attempt) VALUES (:id, 4, 'progress', 1, 1)", id=ours.id)
    assert client.events(1)[0]["kind"] == "progress"


def test_a_thousand_events_come_in_order(enter: Opener, clawq: pytest.MonkeyPatch) -> None:
    ours = running()
    client = enter()
    client.ask({"op": "subscribe", "task_id": ours.id, "after": 3})
    with transaction() as db:
        report(db, ours.id, ours.attempt, [(EventKind.LOG, {"text": str(n)}) for n in range(1000)])
    assert [frame["seq"] for frame in client.events(1000)] == list(range(4, 1004))


def test_a_key_that_is_revoked_closes_its_sockets(enter: Opener, clawq: pytest.MonkeyPatch) -> None:
    clawq.setattr(connection, "KEY_S", 0.05)
    client = enter()
    sql("UPDATE api_keys SET revoked_at = now()")
    assert client.end() == (1008, "The API key is no longer valid.")


def test_a_server_that_closes_says_so(enter: Opener) -> None:
    client = enter()
    closing().begin()
    assert client.end()[0] == 1012


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Origin": "http://["}, 403),
        ({"Origin": "null"}, 403),
        ({"Sec-WebSocket-Version": "12"}, 400),
        ({"Sec-WebSocket-Key": ""}, 400),
    ],
)
def test_a_handshake_that_is_no_good(port: int, headers: dict[str, str], status: int) -> None:
    whole = {
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "MDEyMzQ1Njc4OWFiY2RlZg==",
    }
    assert httpx.get(f"http://127.0.0.1:{port}/ws", headers=whole | headers).status_code == status


def test_a_batch_ends_where_the_server_or_the_key_does(enter: Opener, clawq: pytest.MonkeyPatch) -> None:
    ours = running()
    with transaction() as db:
        report(db, ours.id, ours.attempt, [(EventKind.LOG, {"text": "x"})] * 100)
    told = []
    real = feed.frame

    def frame(item: Any, ref: Any) -> Any:
        told.append(item)
        if len(told) == 5:
            closing().begin()
        return real(item, ref)

    clawq.setattr(feed, "frame", frame)
    client = enter()
    client.ask({"op": "subscribe", "task_id": ours.id})
    assert client.end()[0] == 1012
    assert len(told) == 5


def test_a_postgres_that_does_not_answer_costs_time_alone(enter: Opener, clawq: pytest.MonkeyPatch) -> None:
    clawq.setattr(connection, "_AGAIN_S", 0.01)
    failures = [OperationalError("", {}, Exception("gone"))] * 3
    real = feed.look

    def look(stream: Stream) -> Any:
        if failures:
            raise failures.pop()
        return real(stream)

    clawq.setattr(feed, "look", look)
    client = enter()
    client.ask({"op": "subscribe", "task_id": put("succeeded")})
    assert [frame["seq"] for frame in client.events(4)] == [1, 2, 3, 4]


def test_an_agent_s_letters_come_and_are_acknowledged(enter: Opener, key: Callable[..., str], port: int) -> None:
    sender, receiver = employ(agent_id="sender"), employ(agent_id="receiver")
    client = enter()
    client.ask({"op": "subscribe", "agent_id": receiver, "ref": "inbox"})
    posted = httpx.post(
        f"http://127.0.0.1:{port}/api/v1/messages",
        json={
            "source_agent_id": sender,
            "destination_agent_id": receiver,
            "message_type": "text",
            "content": "hello",
        },
        headers={"Authorization": f"Bearer {key()}"},
    ).json()
    with transaction() as db:
        deliver(db)
    heard = client.hear()
    assert (heard["type"], heard["ref"], heard["id"], heard["content"]) == ("message", "inbox", posted["id"], "hello")
    assert (heard["seq"], heard["again"], heard["status"]) == (1, False, "sent")
    told = client.ask({"op": "ack", "message_id": posted["id"]})
    assert told == {"type": "ack", "message_id": posted["id"], "status": "received"}
    assert client.ask({"op": "ack", "message_id": "none"})["code"] == "not_found"
