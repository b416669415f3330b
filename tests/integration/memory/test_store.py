"""Storing: each text once in its scope, all or none, and queued for the index in the same transaction."""

from __future__ import annotations

from typing import Any

import pytest

from app import publisher
from app.errors import Invalid, NotFound
from app.memory import store as store_module
from app.memory.forget import sweep
from app.memory.store import store
from app.memory.update import update
from app.queues import Queue
from tests.integration.memory.hands import agent, catch_up, do, keep, look, new, outbox, row, session, texts
from tests.support import OWNER, envelopes, scalar, sql, together


def test_a_stored_text_is_a_row_and_an_entry_in_the_outbox_and_rings_the_indexer() -> None:
    catch_up()
    (memory_id,) = keep("Ada likes tea.", metadata={"about": "ada"}, importance=0.9)
    memory = row(memory_id)
    assert (memory.owner, memory.memory_type, memory.version, memory.indexed_version) == (OWNER, "semantic", 1, 0)
    assert (memory.metadata, memory.importance, memory.status) == ({"about": "ada"}, 0.9, "active")
    assert [(entry.memory_id, entry.version) for entry in outbox()] == [(memory_id, 1)]
    assert ("memory.index", []) in envelopes(Queue.MEMORY)


def test_many_rings_make_one_envelope() -> None:
    catch_up()
    keep("one")
    keep("two")
    assert len(envelopes(Queue.MEMORY)) == 1
    publisher.answer(Queue.MEMORY)
    keep("three")
    assert len(envelopes(Queue.MEMORY)) == 2


def test_a_text_is_remembered_once_in_its_scope() -> None:
    agent(), session()
    first, again = do(store, OWNER, [new("tea"), new("tea")])
    assert (first.result, again.result, again.id) == ("created", "duplicate_of", first.id)
    scopes = [{}, {"agent_id": "writer"}, {"session_id": "talk"}, {"user_id": "u"}, {"memory_type": "episodic"}]
    for scope in scopes[1:]:
        (other,) = do(store, OWNER, [new("tea", **scope)])
        assert other.result == "created", scope
    for scope in scopes:
        assert do(store, OWNER, [new("tea", **scope)])[0].result == "duplicate_of", scope
    assert do(store, "grace", [new("tea")])[0].result == "created"


def test_of_writers_at_the_same_moment_one_stores_a_text() -> None:
    texts_ = [f"text {n}" for n in range(20)]
    writers = [lambda order=order: do(store, OWNER, [new(t) for t in order]) for order in (texts_, texts_[::-1])]
    results = together(*writers, *writers)
    assert not [result for result in results if isinstance(result, Exception)]
    created = [one.id for result in results for one in result if one.result == "created"]
    assert len(created) == len(set(created)) == scalar("SELECT count(*) FROM memory") == 20


def test_what_has_expired_is_not_in_the_way_of_the_same_text() -> None:
    (old,) = keep("tea")
    sql("UPDATE memory SET expires_at = now() - interval '1 second'")
    (stored,) = do(store, OWNER, [new("tea")])
    assert stored.result == "created"
    assert stored.id != old
    assert sql("SELECT id FROM memory") == [(stored.id,)]


@pytest.mark.parametrize(
    ("field", "value"), [("agent_id", "nobody"), ("session_id", "theirs"), ("supersedes", ["none"])]
)
def test_what_is_referred_to_must_be_there_and_nothing_is_stored_otherwise(field: str, value: object) -> None:
    session("theirs", owner="grace")
    with pytest.raises(NotFound) as refused:
        do(store, OWNER, [new("fine"), new("tea", **{field: value})])
    assert [problem.loc for problem in refused.value.problems] == [(1, field)]
    assert scalar("SELECT count(*) FROM memory") == 0


def test_a_memory_stands_in_the_place_of_those_that_it_supersedes() -> None:
    (old,) = keep("Ada lives in London.")
    (stored,) = do(store, OWNER, [new("Ada lives in Paris.", supersedes=[old])])
    catch_up()
    assert (row(old).status, row(old).replaced_by) == ("superseded", stored.id)
    assert texts(look("Where does Ada live?")) == ["Ada lives in Paris."]


NEARLY = "the quick brown fox jumps over the lazy dog and runs away into the deep dark forest at night"


@pytest.mark.parametrize("known", [True, False], ids=["indexed", "not indexed yet"])
def test_texts_that_say_nearly_the_same_are_told_of(known: bool) -> None:
    catch_up()
    (old,) = keep(NEARLY)
    keep("something else entirely")
    if known:
        catch_up()
    (stored,) = do(store, OWNER, [new(NEARLY + ".")], near="report")
    assert stored.result == "created"
    assert [likeness.id for likeness in stored.near or ()] == [old]


def test_another_scope_says_nothing_of_nearness() -> None:
    catch_up()
    keep(NEARLY, user_id="u")
    keep(NEARLY, owner="grace")
    (stored,) = do(store, OWNER, [new(NEARLY + ".")], near="report")
    assert stored.near == []


def test_without_an_index_nearness_cannot_be_told() -> None:
    keep(NEARLY)
    (stored,) = do(store, OWNER, [new(NEARLY + ".")], near="report")
    assert (stored.result, stored.near) == ("created", None)


def test_a_text_is_merged_into_the_nearest_one_whose_text_becomes_a_version() -> None:
    catch_up()
    (old,) = keep(NEARLY, metadata={"a": 1, "b": 1}, importance=0.9)
    (stored,) = do(store, OWNER, [new(NEARLY + ".", metadata={"b": 2}, importance=0.2)], near="merge")
    assert (stored.result, stored.id) == ("updated", old)
    memory = row(old)
    assert (memory.content, memory.version, memory.metadata) == (NEARLY + ".", 2, {"a": 1, "b": 2})
    assert memory.importance == 0.9
    assert sql("SELECT content FROM memory_versions WHERE memory_id = :id", id=old) == [(NEARLY,)]


def test_a_task_that_asks_again_finds_what_it_stored() -> None:
    (first,) = do(store, OWNER, [new("tea")], task_id="t")
    (again,) = do(store, OWNER, [new("tea")], task_id="t")
    assert again == first


def test_words_of_a_text_follow_it_when_it_changes() -> None:
    (memory_id,) = keep("elephants remember")
    do(update, OWNER, memory_id, {"content": "goldfish forget"})
    assert texts(look("elephant", mode="keyword")) == []
    assert texts(look("goldfish", mode="keyword")) == ["goldfish forget"]


def test_the_sweep_forgets_what_has_expired_and_tells_the_index() -> None:
    catch_up()
    gone, _ = keep("gone", "stays")
    catch_up()
    sql("UPDATE memory SET expires_at = now() WHERE id = :id", id=gone)
    assert do(sweep) == 1
    assert do(sweep) == 0
    assert sql("SELECT content FROM memory") == [("stays",)]
    assert [entry.memory_id for entry in outbox()] == [gone]


def test_what_others_change_while_a_text_is_merged_stays(memory: pytest.MonkeyPatch) -> None:
    catch_up()
    (old,) = keep(NEARLY, metadata={"a": 1})
    plain, calls = store_module.get, []

    def overtaken(db: Any, owner: str, memory_id: str) -> Any:
        found = plain(db, owner, memory_id)
        if not calls:
            calls.append(do(update, OWNER, old, {"metadata": {"a": 1, "b": 2}}))
        return found

    memory.setattr(store_module, "get", overtaken)
    (stored,) = do(store, OWNER, [new(NEARLY + ".", metadata={"c": 3})], near="merge")
    assert stored.result == "updated"
    assert row(old).metadata == {"a": 1, "b": 2, "c": 3}


def test_a_text_that_has_expired_already_is_refused() -> None:
    past = sql("SELECT now() - interval '1 second'")[0][0]
    with pytest.raises(Invalid) as refused:
        do(store, OWNER, [new("fine"), new("late", expires_at=past)])
    assert [problem.loc for problem in refused.value.problems] == [(1, "expires_at")]
    (memory_id,) = keep("fine")
    with pytest.raises(Invalid):
        do(update, OWNER, memory_id, {"expires_at": past})


def test_a_task_that_superseded_and_asks_again_finds_what_it_stored() -> None:
    (old,) = keep("London")
    (first,) = do(store, OWNER, [new("Paris", supersedes=[old])], task_id="t")
    assert do(store, OWNER, [new("Paris", supersedes=[old])], task_id="t") == [first]
