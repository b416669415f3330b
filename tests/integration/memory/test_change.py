"""Changing and forgetting: versions are kept, and what is forgotten is gone everywhere."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from app.errors import Conflict, NotFound
from app.memory.find import find, get, history
from app.memory.forget import forget, forget_all
from app.memory.store import store
from app.memory.update import replace, update
from app.memory.wanted import Wanted
from schema.memories import MemoryStatus
from tests.integration.memory.hands import catch_up, check, do, keep, look, new, row, texts
from tests.support import OWNER, Aside, eventually, scalar, sql


def test_a_change_raises_the_version_and_keeps_what_was() -> None:
    (memory_id,) = keep("tea", metadata={"a": 1})
    do(update, OWNER, memory_id, {"content": "coffee", "metadata": None})
    do(update, OWNER, memory_id, {"importance": 1.0})
    memory = do(get, OWNER, memory_id)
    assert (memory.content, memory.metadata, memory.importance, memory.version) == ("coffee", None, 1.0, 3)
    before = do(history, OWNER, memory_id)
    assert [(old.version, old.content, old.metadata) for old in before] == [(2, "coffee", None), (1, "tea", {"a": 1})]


def test_a_change_that_changes_nothing_makes_no_version() -> None:
    (memory_id,) = keep("tea")
    do(update, OWNER, memory_id, {"content": "tea", "importance": 0.5})
    assert row(memory_id).version == 1


def test_a_vector_is_kept_while_the_text_stays() -> None:
    (memory_id,) = keep("tea")
    catch_up()
    do(update, OWNER, memory_id, {"importance": 1.0})
    assert row(memory_id).embedding is not None
    do(update, OWNER, memory_id, {"content": "coffee"})
    assert (row(memory_id).embedding, row(memory_id).embedder) == (None, None)


def test_a_change_meant_for_another_version_is_refused() -> None:
    (memory_id,) = keep("tea")
    do(update, OWNER, memory_id, {"content": "coffee"}, version=1)
    with pytest.raises(Conflict, match="version 2"):
        do(update, OWNER, memory_id, {"content": "milk"}, version=1)
    assert row(memory_id).content == "coffee"


def test_a_text_that_its_scope_has_already_is_refused() -> None:
    memory_id, other = keep("tea", "coffee")
    with pytest.raises(Conflict, match=other):
        do(update, OWNER, memory_id, {"content": "coffee"})


def test_what_was_superseded_can_be_brought_back() -> None:
    old, new_ = keep("London", "Paris")
    assert do(replace, OWNER, [old], new_, MemoryStatus.SUPERSEDED) == [old]
    do(update, OWNER, old, {"status": "active"})
    assert (row(old).status, row(old).replaced_by, row(old).version) == ("active", None, 3)
    catch_up()
    assert texts(look("London")) == ["London"]
    assert check().differences == 0


def test_two_that_replace_each_other_at_once_are_not_both_gone() -> None:
    a, b = keep("one", "two")
    done, second_waits = threading.Event(), threading.Event()

    def replace_and_wait(db: Any) -> list[str]:
        replaced = replace(db, OWNER, [a], b, MemoryStatus.MERGED)
        done.set()
        assert second_waits.wait(30)
        return replaced

    first = Aside(replace_and_wait)
    assert done.wait(30)
    second = Aside(lambda db: replace(db, OWNER, [b], a, MemoryStatus.MERGED))
    eventually(second.is_blocked)
    second_waits.set()
    assert (first.join(), second.join()) == ([a], [])
    assert row(b).status == "active"


def test_what_is_forgotten_is_gone_with_its_history_its_uses_and_its_merged_ones() -> None:
    kept, merged, other = keep("tea is good", "tea is very good", "milk")
    do(update, OWNER, kept, {"content": "tea is great"})
    do(replace, OWNER, [merged], kept, MemoryStatus.MERGED)
    catch_up()
    look("tea")
    assert sorted(do(forget, OWNER, [kept])) == sorted([kept, merged])
    for table in ("memory", "memory_versions", "memory_uses"):
        column = "id" if table == "memory" else "memory_id"
        left = sql(f"SELECT {column} AS id FROM {table} WHERE {column} = ANY(:ids)", ids=[kept, merged])
        assert left == [], table
    catch_up()
    assert check().expected == 1
    assert check().differences == 0
    assert row(other).status == "active"


def test_what_stood_in_the_place_of_another_leaves_no_trace_in_it() -> None:
    old, new_ = keep("London", "Paris")
    do(replace, OWNER, [old], new_, MemoryStatus.SUPERSEDED)
    do(forget, OWNER, [new_])
    assert (row(old).status, row(old).replaced_by) == ("superseded", None)


def test_answers_and_tasks_that_hold_the_text_forget_it_too() -> None:
    (stored,) = do(store, OWNER, [new("my secret")], task_id="t1")
    sql(
        "INSERT INTO tasks (id, owner, task_type, description, payload, queue)"
        """ VALUES ('t1', :owner, 'memory.store', '', '{"content": "my secret"}', 'memory')""",
        owner=OWNER,
    )
    sql(
        "INSERT INTO idempotency (owner, route, key, body_sha256, http_status, response) VALUES"
        """ (:owner, 'r', 'k', '', 201, jsonb_build_object('id', CAST(:id AS text), 'content', 'my secret'))""",
        owner=OWNER,
        id=stored.id,
    )
    do(forget, OWNER, [stored.id])
    for place in ("SELECT payload FROM tasks", "SELECT response FROM idempotency"):
        assert "secret" not in str(sql(place)), place


def test_a_scope_is_forgotten_as_a_whole() -> None:
    keep("a", "b", user_id="u")
    keep("c", user_id="v")
    sql("UPDATE memory SET expires_at = now() WHERE content = 'b'")
    assert len(do(forget_all, Wanted(owner=OWNER, user_id="u", status=None, expired=True))) == 2
    assert sql("SELECT content FROM memory") == [("c",)]


def test_what_has_expired_is_as_good_as_gone() -> None:
    (memory_id,) = keep("tea")
    sql("UPDATE memory SET expires_at = now()")
    for verb, more in ((get, ()), (update, ({"importance": 1.0},)), (history, ())):
        with pytest.raises(NotFound):
            do(verb, OWNER, memory_id, *more)
    assert texts(look("tea")) == []
    assert do(find, Wanted(owner=OWNER), None, 10) == ([], None)


def test_a_list_is_read_page_by_page_newest_first() -> None:
    ids = [keep(f"text {n}")[0] for n in range(5)]
    seen, cursor = [], None
    while True:
        page, cursor = do(find, Wanted(owner=OWNER), cursor, 2)
        seen += [memory.id for memory in page]
        if cursor is None:
            break
    assert seen == ids[::-1]
    assert scalar("SELECT count(*) FROM memory") == 5


def test_tasks_that_came_upon_a_memory_forget_its_text_too() -> None:
    (memory_id,) = keep("my secret")
    sql(
        "INSERT INTO tasks (id, owner, task_type, description, payload, result, queue) VALUES"
        """ ('t2', :owner, 'memory.store', '', '{"content": "my secret"}', jsonb_build_object('id', CAST(:id AS text)),
             'memory')""",
        owner=OWNER,
        id=memory_id,
    )
    sql(
        "INSERT INTO idempotency (owner, route, key, body_sha256, http_status, response) VALUES"
        """ (:owner, 'r', 'k', '', 202, '{"id": "t2", "payload": {"content": "my secret"}}')""",
        owner=OWNER,
    )
    do(forget, OWNER, [memory_id])
    for place in ("SELECT payload FROM tasks", "SELECT response FROM idempotency"):
        assert "secret" not in str(sql(place)), place
