"""Messages and inboxes over HTTP."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from flask.testing import FlaskClient

from api import news as news_
from app import publisher
from tests.integration.api.conftest import Caller
from tests.integration.messages.hands import a_chat, a_session, deliver, some_agents, write
from tests.support import eventually, scalar


def letter(source: str, destination: str, **values: Any) -> dict[str, Any]:
    return {"source_agent_id": source, "destination_agent_id": destination, "message_type": "text", "content": "Tea?",
            **values}  # fmt: skip


def test_a_letter_is_sent_read_and_acknowledged(ada: Caller) -> None:
    a, b = some_agents(2)
    session = a_session()
    response = ada.call("POST", "/messages", letter(a, b, metadata={"n": 1}, session_id=session))
    sent = response.get_json()
    assert response.status_code == 201
    assert response.headers["Location"] == f"/api/v1/messages/{sent['id']}"
    assert sent == {
        "id": sent["id"], "owner": "ada", "source_agent_id": a, "destination_agent_id": b, "groupchat_id": None,
        "post_id": None, "session_id": session, "message_type": "text", "content": "Tea?", "metadata": {"n": 1},
        "status": "pending", "seq": None, "created_at": sent["created_at"], "sent_at": None, "received_at": None,
    }  # fmt: skip
    path = f"/messages/{sent['id']}"
    assert ada.get(path) == sent
    assert ada.get(f"/agents/{b}/inbox") == {"items": [], "next_cursor": None}
    assert ada.post(f"{path}/ack", status=409)["code"] == "conflict"
    deliver()
    (shown,) = ada.get(f"/agents/{b}/inbox")["items"]
    assert (shown["id"], shown["status"], shown["seq"]) == (sent["id"], "sent", 1)
    assert ada.get(f"/agents/{b}/inbox")["items"] == [shown]
    received = ada.post(f"{path}/ack", status=200)
    assert received["status"] == "received"
    assert ada.post(f"{path}/ack", status=200) == ada.get(path) == received
    assert ada.get(f"/agents/{b}/inbox")["items"] == []


def test_a_post_reaches_the_members(ada: Caller) -> None:
    a, b, c = some_agents(3)
    chat = a_chat(a, b, c)
    body = {"source_agent_id": a, "groupchat_id": chat, "message_type": "text", "content": "All!"}
    post = ada.post("/messages", body, status=201)
    assert (post["destination_agent_id"], post["groupchat_id"]) == (None, chat)
    deliver()
    (copy,) = ada.get(f"/agents/{b}/inbox")["items"]
    assert (copy["post_id"], copy["groupchat_id"], copy["content"]) == (post["id"], chat, "All!")
    assert [m["id"] for m in ada.get("/messages")["items"]] == [post["id"]]
    assert copy in ada.get(f"/messages?post_id={post['id']}")["items"]
    assert ada.get(f"/messages?destination_agent_id={b}&status=sent")["items"] == [copy]
    assert ada.post(f"/messages/{post['id']}/ack", status=409)


def test_a_repeat_sends_nothing_twice(ada: Caller) -> None:
    a, b = some_agents(2)
    once = {"Idempotency-Key": "once"}
    first = ada.post("/messages", letter(a, b), status=201, headers=once)
    again = ada.call("POST", "/messages", letter(a, b), headers=once)
    assert (again.get_json(), again.headers["Idempotency-Replayed"]) == (first, "true")
    assert ada.post("/messages", letter(a, b, content="Coffee?"), status=422, headers=once)
    assert scalar("SELECT count(*) FROM messages") == 1


def test_what_is_wrong_is_named(ada: Caller) -> None:
    (a,) = some_agents(1)
    missing = ada.post("/messages", letter(a, "nobody", session_id="none"), status=404)
    assert [error["loc"] for error in missing["errors"]] == [["destination_agent_id"], ["session_id"]]
    assert ada.post("/messages", letter(a, a, groupchat_id="g"), status=422)["errors"][0]["loc"] == []
    assert ada.get("/agents/nobody/inbox", status=404)["detail"] == "No agent nobody."
    assert ada.get(f"/agents/{a}/inbox?after=x", status=422)["errors"][0]["loc"] == ["after"]


def test_an_inbox_goes_on_from_a_number(ada: Caller) -> None:
    a, b = some_agents(2)
    ids = [write(a, b) for _ in range(3)]
    deliver()
    page = ada.get(f"/agents/{b}/inbox?limit=2")
    assert ([m["id"] for m in page["items"]], page["next_cursor"]) == (ids[:2], "2")
    page = ada.get(f"/agents/{b}/inbox?limit=2&after={page['next_cursor']}")
    assert ([m["id"] for m in page["items"]], page["next_cursor"]) == (ids[2:], None)


def test_who_waits_is_woken_by_a_letter(ada: Caller, bob: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    # Without its own looks, only the notice can end the wait in time.
    monkeypatch.setattr("api.news.POLL_S", 60)
    a, b = some_agents(2)
    with ThreadPoolExecutor(2) as pool:
        waits = [pool.submit(who.get, f"/agents/{b}/inbox?wait=30") for who in (ada, bob)]
        eventually(lambda: len(news_.news()._waiters.get(b, ())) == 2)
        eventually(lambda: publisher.client().pubsub_numsub(publisher.NEWS)[0][1])
        sent = write(a, b)
        deliver()
        assert [m["id"] for m in waits[0].result(20)["items"]] == [sent]
        assert not waits[1].done(), "another owner's letter is no news"
        write(a, b, owner="bob")
        deliver()
        assert [m["seq"] for m in waits[1].result(20)["items"]] == [1]


def test_a_wait_ends_when_its_time_is_up_or_at_once_if_too_many_wait(ada: Caller) -> None:
    (a,) = some_agents(1)
    assert ada.get(f"/agents/{a}/inbox?wait=0.1")["items"] == []
    news_.news()._places["ada"] = news_.MOST_WAITERS
    refused = ada.call("GET", f"/agents/{a}/inbox?wait=60")
    assert (refused.get_json()["items"], refused.headers["Retry-After"]) == ([], "1")


def test_owners_share_agents_and_nothing_else(ada: Caller, bob: Caller, admin: Caller) -> None:
    a, b = some_agents(2)
    hers, his = (who.post("/messages", letter(a, b), status=201)["id"] for who in (ada, bob))
    deliver()
    for who, own, strange in ((ada, hers, his), (bob, his, hers)):
        assert [(m["id"], m["seq"]) for m in who.get(f"/agents/{b}/inbox")["items"]] == [(own, 1)]
        assert [m["id"] for m in who.get("/messages")["items"]] == [own]
        unknown = who.get("/messages/nothing", status=404)["detail"].replace("nothing", strange)
        assert who.get(f"/messages/{strange}", status=404)["detail"] == unknown
        assert who.post(f"/messages/{strange}/ack", status=404)["detail"] == unknown
        for field in ("source_agent_id", "destination_agent_id"):
            assert [m["id"] for m in who.get(f"/messages?{field}={a if 'source' in field else b}")["items"]] == [own]
    assert [m["id"] for m in admin.get("/messages")["items"]] == [his, hers]
    assert admin.get(f"/agents/{b}/inbox")["items"] == []
    assert admin.get(f"/messages/{hers}")["status"] == "sent"
    assert admin.post(f"/messages/{hers}/ack", status=200)["status"] == "received"


def test_another_owner_s_conversation_cannot_be_written_to(ada: Caller, bob: Caller, admin: Caller) -> None:
    a, b = some_agents(2)
    chat, session = a_chat(a, b), a_session()
    post = {"source_agent_id": a, "groupchat_id": chat, "message_type": "text", "content": "All!"}
    for who in (bob, admin):
        assert who.post("/messages", post, status=404)["errors"][0]["loc"] == ["groupchat_id"]
        assert who.post("/messages", letter(a, b, session_id=session), status=404)["errors"][0]["loc"] == ["session_id"]
    assert ada.post("/messages", post | {"session_id": session}, status=201)


def test_metrics_tell_what_waits(client: FlaskClient) -> None:
    a, b, c = some_agents(3)
    write(a, b)
    write(a, groupchat_id=a_chat(a, b, c))
    assert "\nmessages_pending 3.0\n" in client.get("/metrics").text
    deliver()
    shown = client.get("/metrics").text
    assert "\nmessages_pending 0.0\n" in shown
    assert "\nmessages_delivered_total " in shown
