"""Indexing: the index comes to hold what Postgres says, whatever happens in between."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from app.db import statements
from app.embeddings.choose import embedder
from app.memory import dense, generations, index, outbox, search
from app.memory.forget import forget
from app.memory.update import update
from app.settings import settings
from tests.integration.memory.hands import Stub, catch_up, check, do, due, keep, look, row, texts
from tests.integration.memory.hands import outbox as entries
from tests.support import OWNER, envelopes, sql


def test_the_first_indexer_makes_the_first_generation_and_fills_it() -> None:
    ids = keep("one", "two")
    catch_up()
    (only,) = do(generations.serving)
    assert (only.status, only.embedder, only.dimensions) == ("active", embedder().name, embedder().dimensions)
    assert [row(one).indexed_version for one in ids] == [1, 1]
    assert entries() == []
    assert (check().expected, check().differences) == (2, 0)


def test_changes_and_removals_follow() -> None:
    changed, gone, _ = keep("one", "two", "three")
    catch_up()
    do(update, OWNER, changed, {"content": "uno"})
    do(update, OWNER, changed, {"content": "eins"})
    do(forget, OWNER, [gone])
    catch_up()
    assert row(changed).indexed_version == 3
    report = check()
    assert (report.expected, report.differences, report.pending) == (2, 0, 0)


def test_a_change_between_the_look_and_the_write_is_not_overwritten(stub: Stub, memory: pytest.MonkeyPatch) -> None:
    (memory_id,) = keep("one")
    plain = stub.embed

    def changing(texts: Sequence[str]) -> Any:
        if "one" in texts:
            do(update, OWNER, memory_id, {"content": "two"})
        return plain(texts)

    memory.setattr(stub, "embed", changing)
    catch_up()
    assert row(memory_id).indexed_version == 2
    assert stub.seen == ["one", "two"]
    assert check().differences == 0


def test_an_indexer_that_died_loses_nothing() -> None:
    catch_up()
    (memory_id,) = keep("one")
    with statements() as db:
        assert len(outbox.take(db, embedder().name)) == 1
    catch_up()
    assert row(memory_id).indexed_version == 0, "somebody has it in hand"
    due()
    catch_up()
    assert row(memory_id).indexed_version == 1


def test_what_is_written_twice_or_late_harms_nothing() -> None:
    (memory_id,) = keep("one")
    catch_up()
    collection = do(dense.active, OWNER).collection
    do(update, OWNER, memory_id, {"content": "two"})
    catch_up()
    late = np.ones((1, embedder().dimensions), dtype=np.float32)
    index.put(collection, [index.key_of(memory_id, 1)], late, [{"owner": OWNER}])
    assert texts(look("two", mode="vector")) == ["two"]
    assert check().ghosts == 1
    assert check(repair=True).ghosts == 1
    assert check().differences == 0


def test_a_vector_that_is_known_is_not_made_again(stub: Stub) -> None:
    (memory_id,) = keep("one")
    catch_up()
    do(update, OWNER, memory_id, {"importance": 1.0})
    catch_up()
    assert stub.seen == ["one"]
    assert row(memory_id).indexed_version == 2


def test_while_the_embedder_is_away_all_waits_and_nothing_counts(stub: Stub) -> None:
    (memory_id,) = keep("one")
    stub.away = True
    catch_up()
    (entry,) = entries()
    assert (entry.failures, entry.failed_at) == (0, None)
    assert entry.error
    stub.away = False
    due()
    catch_up()
    assert row(memory_id).indexed_version == 1


def test_what_cannot_be_embedded_ends_on_the_list_and_keeps_no_other_waiting(stub: Stub) -> None:
    good, bad = keep("good", "bad")
    stub.never = {"bad"}
    for _ in range(outbox.MOST_FAILURES):
        catch_up()
        due()
    assert row(good).indexed_version == 1
    (failure,) = do(generations.failures, OWNER)
    assert (failure.memory_id, failure.failures) == (bad, outbox.MOST_FAILURES)
    assert failure.failed_at is not None
    assert do(generations.failures, "grace") == []
    assert (check().failed, check().differences) == (1, 1)
    stub.never = set()
    check(repair=True)
    catch_up()
    assert check().differences == 0


def test_what_chroma_refuses_keeps_no_other_waiting(stub: Stub, memory: pytest.MonkeyPatch) -> None:
    good, bad = keep("good", "bad")
    plain = index.put

    def refusing(name: str, keys: Sequence[str], *rest: Any) -> None:
        if any(key.startswith(bad) for key in keys):
            raise index.IndexRefused
        plain(name, keys, *rest)

    memory.setattr(index, "put", refusing)
    catch_up()
    assert (row(good).indexed_version, row(bad).indexed_version) == (1, 0)
    assert [entry.failures for entry in entries()] == [1]


def test_while_chroma_is_away_writes_wait_in_the_outbox(memory: pytest.MonkeyPatch) -> None:
    catch_up()
    (memory_id,) = keep("one")
    chroma = settings().require_vector_db_url()
    for url in ("http://127.0.0.1:9", chroma):
        memory.setenv("VECTOR_DB_URL", url)
        settings.cache_clear()
        index.close()
        due()
        catch_up()
    assert row(memory_id).indexed_version == 1
    assert check().differences == 0


def test_the_clock_rings_for_what_is_due() -> None:
    catch_up()
    keep("one")
    sql("UPDATE memory_outbox SET available_at = now() + interval '1 minute'")
    before = len(envelopes("memory"))
    do(outbox.ring_due)
    assert len(envelopes("memory")) == before
    from app import publisher
    from app.queues import Queue

    publisher.answer(Queue.MEMORY)
    due()
    do(outbox.ring_due)
    assert len(envelopes("memory")) == before + 1


def test_what_had_failed_is_off_the_list_once_it_is_indexed(stub: Stub) -> None:
    (memory_id,) = keep("bad")
    stub.never = {"bad"}
    for _ in range(outbox.MOST_FAILURES):
        catch_up()
        due()
    do(update, OWNER, memory_id, {"content": "good"})
    catch_up()
    assert do(generations.failures, OWNER) == []
    assert check().differences == 0


def test_without_chroma_in_the_settings_words_answer(memory: pytest.MonkeyPatch) -> None:
    keep("tea")
    catch_up()
    memory.delenv("VECTOR_DB_URL")
    settings.cache_clear()
    index.close()
    found = look("tea")
    assert (texts(found), found.degraded_by) == (["tea"], ["index_away"])


def test_what_cannot_be_embedded_does_not_keep_searches_from_the_rest(memory: pytest.MonkeyPatch, stub: Stub) -> None:
    memory.setattr(search, "embedder", lambda: stub)
    memory.setattr(Stub, "at_hand", 10)
    catch_up()
    keep("good", "bad")
    stub.never = {"bad"}
    found = look("anything", mode="vector")
    assert texts(found) == ["good"]
    assert not found.degraded
