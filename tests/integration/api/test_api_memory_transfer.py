"""Memories out of one stack and into another, over HTTP: the round trip is exact, and tells nothing of others."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import text

from app.db import transaction
from app.embeddings.choose import embedder
from app.memory import generations, transfer
from tests.integration.api.conftest import Caller
from tests.integration.api.test_api_memories import TEA, make_agent, make_session, search, store

FIELDS = {
    "id", "memory_type", "content", "metadata", "importance", "agent_id", "session_id", "user_id", "status",
    "replaced_by", "version", "created_at", "updated_at", "expires_at", "uses", "used_at", "history",
}  # fmt: skip

LONG_AGO = "2020-01-01T00:00:00Z"


def export(caller: Caller, query: str = "") -> list[dict[str, Any]]:
    """All documents, from any number of pages."""
    documents: list[dict[str, Any]] = []
    cursor = ""
    while True:
        page = caller.get(f"/memories/export?limit=2{query}{cursor}")
        documents += page["items"]
        if page["next_cursor"] is None:
            return documents
        cursor = f"&cursor={page['next_cursor']}"


def restore(caller: Caller, *documents: dict[str, Any]) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = caller.post("/memories/import", {"memories": documents}, 201)["items"]
    return items


def forget_all() -> None:
    """As in a stack that has never seen them."""
    with transaction() as db:
        db.execute(text("DELETE FROM memory"))


def run(statement: str, **params: Any) -> list[Any]:
    with transaction() as db:
        result = db.execute(text(statement), params)
        return list(result) if result.returns_rows else []


@pytest.fixture
def rich(ada: Caller) -> Caller:
    """Somebody with memories of every kind."""
    scope = {"agent_id": make_agent(), "session_id": make_session("ada"), "user_id": "grace"}
    values = {"metadata": {"a": [1.5, None, {"é": '\n"'}]}, "importance": 0.1, "expires_at": "2100-01-01T00:00:00.5Z"}
    one = store(ada, **scope, **values)["id"]
    ada.call("PATCH", f"/memories/{one}", {"content": "Second, 茶.", "metadata": {}})
    ada.call("PATCH", f"/memories/{one}", {"content": "Third.", "importance": 1, "expires_at": None})
    two = store(ada, content="Other.", memory_type="procedural")["id"]
    store(ada, content="Newer.", memory_type="procedural", supersedes=[two])
    store(ada, content="Newest.", memory_type="procedural", supersedes=[store(ada, content="x")["id"]])
    search(ada, "newest")
    return ada


def test_the_round_trip_is_exact(rich: Caller) -> None:
    documents = export(rich)
    assert len(documents) == 5
    assert all(set(document) == FIELDS for document in documents)
    assert [len(document["history"]) for document in documents] == [0, 1, 0, 1, 2]
    assert sorted(document["status"] for document in documents) == ["active"] * 3 + ["superseded"] * 2
    assert max(document["uses"] for document in documents) == 1
    shown = {d["id"]: rich.get(f"/memories/{d['id']}") for d in documents}
    histories = {d["id"]: rich.get(f"/memories/{d['id']}/history") for d in documents}
    forget_all()
    told = restore(rich, *documents)
    assert told == [
        {"id": document["id"], "result": "created", "duplicate_of": None, "unlinked": False} for document in documents
    ]
    assert export(rich) == documents
    assert {d["id"]: rich.get(f"/memories/{d['id']}") for d in documents} == shown
    assert {d["id"]: rich.get(f"/memories/{d['id']}/history") for d in documents} == histories
    assert search(rich, "third") == ["Third."]


def test_what_is_here_already_stays_as_it_is(rich: Caller) -> None:
    documents = export(rich)
    told = restore(rich, *({**document, "importance": 0.77} for document in documents))
    assert told == [
        {"id": d["id"], "result": "duplicate_of", "duplicate_of": d["id"], "unlinked": False} for d in documents
    ]
    assert export(rich) == documents


def test_a_document_needs_only_a_type_and_a_text(ada: Caller) -> None:
    (told,) = restore(ada, TEA)
    shown = ada.get(f"/memories/{told['id']}")
    assert (shown["content"], shown["version"], shown["importance"]) == (TEA["content"], 1, 0.5)
    assert shown["created_at"] == shown["updated_at"]


def test_the_same_text_in_the_same_scope_is_there_already(ada: Caller) -> None:
    one = store(ada)["id"]
    told = restore(ada, TEA | {"id": "x"}, TEA | {"id": "y", "user_id": "u"}, TEA | {"id": "z", "user_id": "u"})
    assert [item["id"] for item in told] == [one, "y", "y"]
    assert [item["result"] for item in told] == ["duplicate_of", "created", "duplicate_of"]


def test_a_text_that_has_expired_is_in_nobody_s_way(ada: Caller) -> None:
    store(ada)
    run("UPDATE memory SET expires_at = now() - interval '1 second'")
    assert restore(ada, TEA | {"id": "x"})[0]["result"] == "created"
    assert [item["id"] for item in ada.get("/memories")["items"]] == ["x"]


def test_an_id_that_comes_twice_is_imported_once(ada: Caller) -> None:
    told = restore(ada, TEA | {"id": "x"}, TEA | {"id": "x", "content": "Another."})
    assert [(item["id"], item["result"]) for item in told] == [("x", "created"), ("x", "duplicate_of")]
    assert [document["content"] for document in export(ada)] == [TEA["content"]]


def test_an_id_that_another_owner_has_becomes_a_fresh_one_and_links_follow(rich: Caller, bob: Caller) -> None:
    documents = export(rich)
    # Bob has no such agent's sessions.
    theirs = [document | {"session_id": None} for document in documents]
    told = restore(bob, *theirs)
    new_ids = {d["id"]: item["id"] for d, item in zip(documents, told, strict=True)}
    assert not set(new_ids) & set(new_ids.values())
    assert {item["result"] for item in told} == {"created"}
    assert not any(item["unlinked"] for item in told)
    for before, after in zip(theirs, export(bob), strict=True):
        assert after["id"] == new_ids[before["id"]]
        assert after["replaced_by"] == (before["replaced_by"] and new_ids[before["replaced_by"]])
        moved = {"id", "replaced_by"}
        assert {k: v for k, v in after.items() if k not in moved} == {k: v for k, v in before.items() if k not in moved}
    assert export(rich) == documents
    # The same again finds the same.
    again = restore(bob, *theirs)
    assert [item["id"] for item in again] == [item["id"] for item in told]
    assert {item["result"] for item in again} == {"duplicate_of"}


def test_a_link_to_another_owner_s_memory_is_not_made(ada: Caller, bob: Caller) -> None:
    theirs = store(bob)["id"]
    (told,) = restore(ada, TEA | {"id": "x", "status": "superseded", "replaced_by": theirs})
    assert told["unlinked"]
    assert ada.get("/memories/x")["replaced_by"] is None


def test_what_is_replaced_may_come_before_what_replaces_it(ada: Caller) -> None:
    old = TEA | {"id": "old", "status": "superseded", "replaced_by": "new", "version": 2}
    assert restore(ada, old)[0]["unlinked"]
    restore(ada, TEA | {"id": "new", "content": "Newer."})
    (told,) = restore(ada, old)
    assert (told["result"], told["unlinked"]) == ("duplicate_of", False)
    shown = ada.get("/memories/old")
    assert (shown["replaced_by"], shown["version"]) == ("new", 2)


def test_a_link_follows_a_text_that_was_here_under_another_id(ada: Caller) -> None:
    here = store(ada)["id"]
    old = TEA | {"id": "old", "content": "Before.", "status": "merged", "replaced_by": "new"}
    told = restore(ada, old, TEA | {"id": "new"})
    assert ([item["id"] for item in told], told[0]["unlinked"]) == (["old", here], False)
    assert ada.get("/memories/old")["replaced_by"] == here


@pytest.mark.parametrize("field", ["agent_id", "session_id"])
def test_a_scope_that_is_not_here_is_named_and_nothing_is_written(ada: Caller, bob: Caller, field: str) -> None:
    make_session("bob")
    strange = TEA | {"content": "x", field: "s1"}
    refused = ada.post("/memories/import", {"memories": [TEA, strange]}, 422)
    assert [error["loc"] for error in refused["errors"]] == [["memories", 1, field]]
    assert export(ada) == []


@pytest.mark.parametrize(
    ("change", "loc"),
    [
        ({"id": "a/b"}, ["id"]), ({"id": "index"}, ["id"]), ({"id": ".."}, ["id"]), ({"owner": "bob"}, ["owner"]),
        ({"version": 0}, ["version"]), ({"replaced_by": "x"}, []), ({"created_at": "yesterday"}, ["created_at"]),
        ({"content": "x" * 50_001}, ["content"]), ({"uses": -1}, ["uses"]),
        ({"id": "x", "status": "merged", "replaced_by": "x"}, []),
        ({"history": [TEA | {"version": 1, "updated_at": LONG_AGO, "replaced_at": LONG_AGO}]}, []),
    ],
    ids=lambda value: str(value)[:30],
)  # fmt: skip
def test_a_document_that_cannot_be_is_refused(ada: Caller, change: dict[str, Any], loc: list[str]) -> None:
    refused = ada.post("/memories/import", {"memories": [TEA, TEA | change]}, 422)
    assert refused["errors"][0]["loc"] == ["memories", 1, *loc]


def test_a_repeated_import_gets_the_same_answer_which_holds_no_text(ada: Caller) -> None:
    once = {"headers": {"Idempotency-Key": "k"}}
    first = ada.post("/memories/import", {"memories": [TEA]}, 201, **once)
    assert ada.post("/memories/import", {"memories": [TEA]}, 201, **once) == first
    assert TEA["content"] not in str(run("SELECT response::text FROM idempotency"))


def test_what_is_imported_is_queued_for_the_index(ada: Caller) -> None:
    with transaction() as db:
        generations.start(db, embedder(), status="active")
    restore(ada, TEA | {"id": "x", "version": 7})
    assert [tuple(row) for row in run("SELECT memory_id, version, owner FROM memory_outbox")] == [("x", 7, "ada")]
    restore(ada, TEA | {"id": "x"})
    assert len(run("SELECT FROM memory_outbox")) == 1
    assert not ada.get("/memories/x")["indexed"]


def test_an_export_is_of_a_scope_and_a_page_ends_where_it_is_heavy(
    ada: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    for n in range(3):
        store(ada, content=f"{n}" * 1000, user_id="u")
    store(ada)
    assert len(export(ada)) == 4
    assert len(export(ada, "&user_id=u")) == 3
    assert export(ada, "&memory_type=working") == []
    monkeypatch.setattr(transfer, "MOST_BYTES", 2100)
    assert len(ada.get("/memories/export?user_id=u")["items"]) == 2
    monkeypatch.setattr(transfer, "MOST_BYTES", 1)
    assert [document["content"][0] for document in export(ada, "&user_id=u")] == ["2", "1", "0"]


def test_what_would_not_be_taken_is_exported_all_the_same(ada: Caller) -> None:
    store(ada)
    run("UPDATE memory SET content = repeat('x', 60000), metadata = '{\"a\": 1}', importance = NULL")
    (document,) = export(ada)
    assert (len(document["content"]), document["importance"]) == (60_000, None)
