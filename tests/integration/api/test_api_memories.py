"""Memories over HTTP: remember, find, change, forget, and whose they are."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import text

from app import agents
from app.db import transaction
from app.memory import forget
from tests.integration.api.conftest import Caller
from tests.integration.api.test_api_tasks import STAMP

TEA = {"memory_type": "semantic", "content": "Grace drinks green tea."}
FIELDS = {
    "id", "owner", "memory_type", "content", "metadata", "importance", "agent_id", "session_id", "user_id", "status",
    "replaced_by", "version", "indexed", "created_at", "updated_at", "expires_at", "uses", "used_at",
}  # fmt: skip
TOLD = {"result", "duplicate_of", "near_duplicates"}


def store(caller: Caller, status: int = 201, **fields: Any) -> dict[str, Any]:
    told: dict[str, Any] = caller.post("/memories", TEA | fields, status)
    return told


def search(caller: Caller, query: str, **fields: Any) -> list[str]:
    """Contents of what is found."""
    return [hit["content"] for hit in caller.post("/memories/search", {"query": query, **fields}, 200)["items"]]


def make_session(owner: str, session_id: str = "s1") -> str:
    with transaction() as db:
        db.execute(
            text("INSERT INTO sessions (id, owner, session_type) VALUES (:id, :owner, 'chat')"),
            {"id": session_id, "owner": owner},
        )
    return session_id


def make_agent() -> str:
    with transaction() as db:
        return str(agents.create(db, name="a", role="r", goal="g", agent_type="scout").id)


def test_a_text_is_remembered_and_found_again(ada: Caller) -> None:
    scope = {"agent_id": make_agent(), "session_id": make_session("ada"), "user_id": "grace"}
    body = TEA | scope | {"metadata": {"lang": "en", "n": 1.5}, "importance": 1, "expires_at": "2100-01-01T00:00:00Z"}
    response = ada.call("POST", "/memories", body)
    told = response.get_json()
    assert response.status_code == 201
    assert set(told) == FIELDS | TOLD
    assert response.headers["Location"] == f"/api/v1/memories/{told['id']}"
    assert {name: told[name] for name in scope} == scope
    assert (told["metadata"], told["importance"]) == ({"lang": "en", "n": 1.5}, 1.0)
    assert (told["expires_at"], told["status"], told["version"]) == ("2100-01-01T00:00:00.000000Z", "active", 1)
    assert (told["owner"], told["result"], told["duplicate_of"]) == ("ada", "created", None)
    assert STAMP.fullmatch(told["created_at"])
    shown = ada.get(f"/memories/{told['id']}")
    assert shown == {name: told[name] for name in FIELDS}
    assert ada.get("/memories") == {"items": [shown], "next_cursor": None}


def test_a_text_is_remembered_once_in_its_scope(ada: Caller) -> None:
    first = store(ada)
    again = store(ada, 200, importance=0.9)
    assert (again["id"], again["result"], again["duplicate_of"]) == (first["id"], "duplicate_of", first["id"])
    assert again["importance"] == 0.5
    assert store(ada, user_id="grace")["id"] != first["id"]


def test_a_new_text_stands_in_the_place_of_others(ada: Caller) -> None:
    old = store(ada)["id"]
    new = store(ada, content="Grace drinks coffee now.", supersedes=[old])["id"]
    shown = ada.get(f"/memories/{old}")
    assert (shown["status"], shown["replaced_by"], shown["version"]) == ("superseded", new, 2)
    assert [item["id"] for item in ada.get("/memories")["items"]] == [new]
    assert [item["id"] for item in ada.get("/memories?status=superseded")["items"]] == [old]


@pytest.mark.parametrize("field", ["agent_id", "session_id", "supersedes"])
def test_what_is_not_there_or_another_owner_s_is_named(ada: Caller, bob: Caller, field: str) -> None:
    make_session("bob")
    strange = {"agent_id": "nobody", "session_id": "s1", "supersedes": [store(bob)["id"]]}[field]
    assert ada.post("/memories", TEA | {field: strange}, 404)["errors"][0]["loc"] == [field]
    batch = {"memories": [TEA, TEA | {field: strange}]}
    assert ada.post("/memories/batch", batch, 404)["errors"][0]["loc"][:3] == ["memories", 1, field]
    assert ada.get("/memories")["items"] == []


def test_a_batch_is_remembered_whole_and_says_what_became_of_each(ada: Caller) -> None:
    first = store(ada)["id"]
    told = ada.post("/memories/batch", {"memories": [TEA, TEA | {"content": "Two."}, TEA | {"content": "Two."}]}, 201)
    assert [set(item) for item in told["items"]] == [{"id", "result", "duplicate_of"}] * 3
    assert [item["result"] for item in told["items"]] == ["duplicate_of", "created", "duplicate_of"]
    assert [item["duplicate_of"] for item in told["items"]] == [first, None, told["items"][1]["id"]]
    ada.post("/memories/batch", {"memories": [TEA | {"content": "Three."}, TEA | {"importance": 2}]}, 422)
    assert len(ada.get("/memories")["items"]) == 2


def test_lists_are_filtered_and_paged(ada: Caller) -> None:
    session = make_session("ada")
    for n in range(3):
        store(ada, content=f"text {n}", user_id="u")
    store(ada, memory_type="working", session_id=session)
    page = ada.get("/memories?user_id=u&limit=2")
    assert [item["content"] for item in page["items"]] == ["text 2", "text 1"]
    rest = ada.get(f"/memories?user_id=u&limit=2&cursor={page['next_cursor']}")
    assert ([item["content"] for item in rest["items"]], rest["next_cursor"]) == (["text 0"], None)
    assert len(ada.get("/memories?memory_type=working")["items"]) == 1
    assert len(ada.get(f"/memories?session_id={session}")["items"]) == 1
    assert ada.get("/memories?cursor=x", 422)["errors"][0]["loc"] == ["cursor"]


def test_a_change_keeps_what_was_as_history(ada: Caller) -> None:
    one = store(ada, metadata={"a": 1}, expires_at="2100-01-01T00:00:00Z")
    path = f"/memories/{one['id']}"
    changed = ada.call("PATCH", path, {"content": "New.", "importance": 0, "metadata": None, "expires_at": None})
    assert changed.status_code == 200, changed.text
    told = changed.get_json()
    assert (told["content"], told["importance"], told["metadata"], told["expires_at"]) == ("New.", 0.0, None, None)
    assert (told["version"], told["memory_type"]) == (2, "semantic")
    (old,) = ada.get(f"{path}/history")["items"]
    assert (old["version"], old["content"], old["metadata"]) == (1, TEA["content"], {"a": 1})
    assert old["replaced_at"] == told["updated_at"]
    assert ada.call("PATCH", path, {"memory_type": "working", "version": 1}).status_code == 409
    assert ada.call("PATCH", path, {"memory_type": "working", "version": 2}).get_json()["version"] == 3
    store(ada, memory_type="working")
    assert ada.call("PATCH", path, {"content": TEA["content"]}).status_code == 409


def test_a_superseded_memory_is_brought_back(ada: Caller) -> None:
    old = store(ada)["id"]
    store(ada, content="Other.", supersedes=[old])
    told = ada.call("PATCH", f"/memories/{old}", {"status": "active"}).get_json()
    assert (told["status"], told["replaced_by"]) == ("active", None)
    assert ada.call("PATCH", f"/memories/{old}", {"status": "merged"}).status_code == 422


def test_what_is_forgotten_is_gone(ada: Caller) -> None:
    one = store(ada)["id"]
    assert ada.call("DELETE", f"/memories/{one}").status_code == 204
    assert ada.call("DELETE", f"/memories/{one}").status_code == 404
    for path in ("", "/history"):
        ada.get(f"/memories/{one}{path}", 404)


def test_memories_are_forgotten_by_their_ids(ada: Caller, bob: Caller) -> None:
    theirs, ours = store(bob)["id"], store(ada)["id"]
    assert ada.post("/memories/forget", {"ids": [ours, theirs, "x"]}, 200) == {"forgotten": 1, "more": False}
    assert bob.get(f"/memories/{theirs}")["content"] == TEA["content"]


def test_a_scope_is_forgotten_whatever_the_status(ada: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    old = store(ada, user_id="u")["id"]
    store(ada, user_id="u", content="Newer.", supersedes=[old])
    store(ada, user_id="v", metadata={"secret": True})
    store(ada)
    assert ada.post("/memories/forget", {"user_id": "u"}, 200) == {"forgotten": 2, "more": False}
    ada.get(f"/memories/{old}", 404)
    assert ada.post("/memories/forget", {"filter": {"secret": True}}, 200)["forgotten"] == 1
    assert ada.post("/memories/forget", {"created_before": "2000-01-01T00:00:00Z"}, 200)["forgotten"] == 0
    store(ada, content="Another.")
    monkeypatch.setattr(forget, "BATCH", 1)
    assert ada.post("/memories/forget", {"all": True}, 200) == {"forgotten": 1, "more": True}
    assert ada.post("/memories/forget", {"all": True}, 200) == {"forgotten": 1, "more": True}
    assert ada.post("/memories/forget", {"all": True}, 200) == {"forgotten": 0, "more": False}


def test_a_search_finds_what_fits_within_what_is_asked(ada: Caller) -> None:
    store(ada, user_id="u", metadata={"lang": "en"})
    store(ada, content="Grace likes green gardens.", user_id="v", memory_type="episodic")
    told = ada.post("/memories/search", {"query": "green tea", "explain": True}, 200)
    assert told["items"][0]["content"] == TEA["content"]
    assert set(told["items"][0]) == FIELDS | {"score", "explain"}
    assert told["items"][0]["explain"]
    scores = [hit["score"] for hit in told["items"]]
    assert scores == sorted(scores, reverse=True)
    # There is no index here.
    assert (told["degraded"], told["degraded_by"]) == (True, ["no_index"])
    assert ada.post("/memories/search", {"query": "green tea"}, 200)["items"][0]["explain"] is None
    assert search(ada, "green", user_id="v") == ["Grace likes green gardens."]
    assert search(ada, "green", memory_type="semantic") == [TEA["content"]]
    assert search(ada, "green", filter={"lang": "en"}) == [TEA["content"]]
    assert search(ada, "green", created_before="2000-01-01T00:00:00Z") == []
    assert len(search(ada, "green", limit=1)) == 1
    assert ada.get("/memories")["items"][0]["uses"] > 0


def test_reading_is_enough_to_search_and_not_to_write(caller: Any, ada: Caller) -> None:
    reader = caller("ada", "read")
    one = store(ada)["id"]
    assert search(reader, "green tea") == [TEA["content"]]
    assert reader.get(f"/memories/{one}")["id"] == one
    for path in ("", "/batch", "/forget", "/consolidate", "/import"):
        assert reader.post(f"/memories{path}", {}, 403)["code"] == "forbidden"
    for method in ("PATCH", "DELETE"):
        assert reader.call(method, f"/memories/{one}", {}).status_code == 403


def test_memories_are_their_owner_s_alone_even_for_an_administrator(ada: Caller, bob: Caller, admin: Caller) -> None:
    one = store(ada, metadata={"n": 1})["id"]
    for other in (bob, admin):
        for path in (f"/memories/{one}", f"/memories/{one}/history"):
            other.get(path, 404)
        assert other.call("PATCH", f"/memories/{one}", {"importance": 1}).status_code == 404
        assert other.call("DELETE", f"/memories/{one}").status_code == 404
        assert other.get("/memories")["items"] == other.get("/memories/export")["items"] == []
        assert search(other, "green tea") == search(other, "green", filter={"n": 1}) == []
        assert other.post("/memories/forget", {"all": True}, 200)["forgotten"] == 0
        assert other.post("/memories/consolidate", {}, 200)["groups"] == []
    assert ada.get(f"/memories/{one}")["version"] == 1


def test_what_has_expired_is_not_found(ada: Caller) -> None:
    one = store(ada)["id"]
    with transaction() as db:
        db.execute(text("UPDATE memory SET expires_at = now() - interval '1 second'"))
    ada.get(f"/memories/{one}", 404)
    assert ada.get("/memories")["items"] == ada.get("/memories/export")["items"] == []
    assert search(ada, "green tea") == []
    assert ada.call("PATCH", f"/memories/{one}", {"expires_at": None}).status_code == 404
    assert store(ada)["id"] != one


def test_a_repeat_remembers_nothing_more_and_a_forgotten_text_is_not_replayed(ada: Caller) -> None:
    once = {"headers": {"Idempotency-Key": "k"}}
    first = ada.post("/memories", TEA, 201, **once)
    assert ada.post("/memories", TEA, 201, **once) == first
    batch = {"memories": [TEA | {"content": "Two."}]}
    assert ada.post("/memories/batch", batch, 201, **once) == ada.post("/memories/batch", batch, 201, **once)
    assert ada.post("/memories/forget", {"all": True}, 200)["forgotten"] == 2
    with transaction() as db:
        kept = db.execute(text("SELECT response::text FROM idempotency")).scalars().all()
    assert len(kept) == 2
    assert not [answer for answer in kept if TEA["content"] in answer]
    assert ada.post("/memories", TEA, 201, **once)["content"] == ""


@pytest.mark.parametrize(
    ("path", "body", "loc"),
    [
        ("", {"content": ""}, ["content"]), ("", {"content": "a\0"}, ["content"]),
        ("", {"memory_type": "vivid"}, ["memory_type"]), ("", {"metadata": {"a": "\0"}}, ["metadata", "a"]),
        ("/search", {}, ["query"]), ("/search", {"query": "x", "limit": 101}, ["limit"]),
        ("/forget", {}, []), ("/consolidate", {"threshold": 0.7}, ["threshold"]),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_with_its_place(ada: Caller, path: str, body: Any, loc: list[str]) -> None:
    given = TEA | body if path == "" else body
    assert ada.post(f"/memories{path}", given, 422)["errors"][0]["loc"] == loc


def test_the_tasks_of_memory_are_accepted_for_its_queue(ada: Caller) -> None:
    for name, payload in (
        ("memory.store", TEA), ("memory.search", {"query": "x"}), ("memory.forget", {"ids": ["x"]}),
        ("memory.consolidate", {}),
    ):  # fmt: skip
        task = ada.post("/tasks", {"task_type": name, "payload": payload})
        assert (task["queue"], task["payload"]) == ("memory", payload)
    refused = ada.post("/tasks", {"task_type": "memory.store", "payload": {"content": "x"}}, 422)
    assert refused["errors"][0]["loc"] == ["payload", "memory_type"]
