"""Sessions and group chats over HTTP."""

from __future__ import annotations

from typing import Any

import pytest

from tests.integration.api.conftest import Caller
from tests.integration.messages.hands import a_chat, a_session, some_agents, write
from tests.support import scalar


def test_a_session_is_begun_changed_closed_and_removed(ada: Caller) -> None:
    response = ada.call("POST", "/sessions", {"session_type": "chat", "metadata": {"n": 1}, "user_id": "grace"})
    session = response.get_json()
    assert response.status_code == 201
    path = f"/sessions/{session['id']}"
    assert response.headers["Location"] == f"/api/v1{path}"
    assert session == {
        "id": session["id"], "owner": "ada", "session_type": "chat", "status": "active", "metadata": {"n": 1},
        "user_id": "grace", "created_at": session["created_at"], "updated_at": session["created_at"], "closed_at": None,
    }  # fmt: skip
    assert ada.get(path) == session
    changed = ada.call("PATCH", path, {"metadata": None}).get_json()
    assert (changed["metadata"], changed["user_id"]) == (None, "grace")
    closed = ada.post(f"{path}/close", status=200)
    assert closed["status"] == "closed"
    assert ada.post(f"{path}/close", status=200) == closed
    assert ada.get("/sessions?status=closed&session_type=chat&user_id=grace")["items"] == [closed]
    assert ada.get("/sessions?status=active")["items"] == []
    assert ada.post("/tasks", {"task_type": "echo", "payload": {}, "session_id": session["id"]}, status=422)
    assert ada.call("DELETE", path).status_code == 204
    assert ada.get(path, status=404)


def test_a_group_chat_is_made_changed_closed_and_removed(ada: Caller) -> None:
    a, b = some_agents(2)
    response = ada.call("POST", "/groupchats", {"name": "team", "agents": [a, b], "description": "d"})
    chat = response.get_json()
    assert response.status_code == 201
    path = f"/groupchats/{chat['id']}"
    assert response.headers["Location"] == f"/api/v1{path}"
    assert chat == {
        "id": chat["id"], "owner": "ada", "name": "team", "description": "d", "agents": [a, b], "status": "active",
        "created_at": chat["created_at"], "updated_at": chat["created_at"],
    }  # fmt: skip
    assert ada.get(path) == chat
    changed = ada.call("PATCH", path, {"agents": [b], "status": "closed"}).get_json()
    assert (changed["agents"], changed["status"], changed["name"]) == ([b], "closed", "team")
    assert ada.get("/groupchats?status=closed&name=team")["items"] == [changed]
    assert ada.get("/groupchats?status=active")["items"] == []
    post = {"source_agent_id": a, "groupchat_id": chat["id"], "message_type": "text", "content": "All!"}
    assert ada.post("/messages", post, status=409)["code"] == "conflict"
    assert ada.call("DELETE", path).status_code == 204
    assert ada.get(path, status=404)


def test_members_that_are_not_there_are_named(ada: Caller) -> None:
    (a,) = some_agents(1)
    refused = ada.post("/groupchats", {"name": "team", "agents": [a, "nobody"]}, status=404)
    assert [error["loc"] for error in refused["errors"]] == [["agents", 1]]
    refused = ada.call("PATCH", f"/groupchats/{a_chat(a)}", {"agents": ["nobody"]})
    assert refused.status_code == 404
    assert [error["loc"] for error in refused.get_json()["errors"]] == [["agents", 0]]


def test_what_messages_belong_to_stays(ada: Caller) -> None:
    a, b = some_agents(2)
    chat, session = a_chat(a, b), a_session()
    write(a, groupchat_id=chat, session_id=session)
    for path in (f"/groupchats/{chat}", f"/sessions/{session}"):
        assert ada.call("DELETE", path).get_json()["code"] == "conflict"


@pytest.mark.parametrize(
    ("path", "body"),
    [("/sessions", {"session_type": "chat"}), ("/groupchats", {"name": "team", "agents": ["AGENT"]})],
    ids=["session", "group chat"],
)
def test_a_repeat_makes_nothing_twice(ada: Caller, path: str, body: dict[str, Any]) -> None:
    (a,) = some_agents(1)
    body |= {"agents": [a]} if "agents" in body else {}
    first = ada.post(path, body, status=201, headers={"Idempotency-Key": "once"})
    assert ada.post(path, body, status=201, headers={"Idempotency-Key": "once"}) == first
    assert scalar(f"SELECT count(*) FROM {path[1:]}") == 1


@pytest.mark.parametrize("noun", ["sessions", "groupchats"])
def test_another_owner_s_is_not_there_and_an_administrator_sees_all(
    ada: Caller, bob: Caller, admin: Caller, noun: str
) -> None:
    (a,) = some_agents(1)
    thing = a_session() if noun == "sessions" else a_chat(a)
    path, nothing = f"/{noun}/{thing}", f"/{noun}/nothing"
    verbs = [("GET", "", None), ("PATCH", "", {}), ("DELETE", "", None)]
    for method, more, body in [*verbs, *([("POST", "/close", {})] if noun == "sessions" else [])]:
        strange, unknown = (bob.call(method, one + more, body) for one in (path, nothing))
        assert strange.status_code == unknown.status_code == 404
        assert strange.get_json()["detail"].replace(thing, "nothing") == unknown.get_json()["detail"]
    assert bob.get(f"/{noun}")["items"] == []
    assert ada.get(f"/{noun}")["items"] == admin.get(f"/{noun}")["items"] == [admin.get(path)]
    assert admin.call("PATCH", path, {}).status_code == 200
    assert admin.call("DELETE", path).status_code == 204
