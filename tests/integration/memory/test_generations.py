"""Generations of the index: one beside the other, and the change from one to the other."""

from __future__ import annotations

import pytest

from app.db import statements
from app.embeddings.choose import embedder
from app.memory import dense, generations, index, outbox
from app.memory.forget import forget
from app.memory.update import update
from tests.integration.memory.hands import Stub, catch_up, check, do, due, keep, look, row, texts
from tests.integration.memory.hands import outbox as entries
from tests.support import OWNER, sql


def test_a_new_generation_is_built_beside_the_old_and_takes_its_place() -> None:
    ids = keep("one", "two", "three")
    catch_up()
    old = do(dense.active, OWNER)
    built = do(generations.start, embedder())
    assert do(generations.start, embedder()) is None, "one at a time"
    assert do(dense.active, OWNER).id == old.id
    do(update, OWNER, ids[0], {"content": "uno"})
    do(forget, OWNER, [ids[1]])
    catch_up()
    assert do(dense.active, OWNER).id == built
    assert (check().expected, check().differences) == (2, 0)
    assert row(ids[0]).indexed_version == 2
    sql("UPDATE memory_indexes SET activated_at = now() - interval '1 hour' WHERE status = 'retired'")
    catch_up()
    assert [one.id for one in do(generations.serving)] == [built]
    with pytest.raises(index.IndexLost):
        list(index.keys(old.collection))


def test_a_write_that_is_under_way_is_not_overlooked_by_a_new_generation() -> None:
    catch_up()
    from app.memory.store import store
    from tests.integration.memory.hands import new
    from tests.support import Aside, eventually

    with statements() as db:
        store(db, OWNER, [new("under way")])
        starting = Aside(lambda other: generations.start(other, embedder()))
        eventually(starting.is_blocked)
    starting.join()
    catch_up()
    assert texts(look("under way", mode="vector")) == ["under way"]
    assert (check().expected, check().differences) == (1, 0)


def test_what_has_failed_does_not_hold_a_generation_up_and_is_not_called_indexed(stub: Stub) -> None:
    _, bad = keep("good", "bad")
    catch_up()
    sql("UPDATE memory SET embedding = NULL, embedder = NULL WHERE id = :id", id=bad)
    stub.never = {"bad"}
    built = do(generations.start, stub)
    for _ in range(outbox.MOST_FAILURES):
        catch_up()
        due()
    catch_up()
    assert do(dense.active, OWNER).id == built
    assert row(bad).indexed_version == 0


def test_a_generation_takes_over_once_whoever_finishes_it() -> None:
    keep("one")
    catch_up()
    built = do(generations.start, embedder())
    sql("UPDATE memory_outbox SET failed_at = now(), failures = 9")
    assert do(generations.flip, built)
    assert not do(generations.flip, built), "another indexer comes late"
    assert do(dense.active, OWNER).id == built
    assert len(entries()) == 1, "what has failed is still on the list"


def test_a_loss_that_somebody_else_has_seen_to_is_none() -> None:
    (memory_id,) = keep("one")
    catch_up()
    (serving,) = do(generations.serving)
    assert do(generations.lost, serving, "new")
    do(forget, OWNER, [memory_id])
    before = entries()
    assert not do(generations.lost, serving, "newer")
    assert entries() == before


def test_a_generation_for_an_embedder_that_is_given_up_is_replaced(stub: Stub) -> None:
    keep("one")
    catch_up()
    sql("UPDATE memory_indexes SET embedder = 'old'")
    other = Stub()
    other.name = "other:3"
    given_up = do(generations.start, other)
    built = do(generations.start, stub)
    assert built not in (None, given_up)
    catch_up()
    assert do(dense.active, OWNER).id == built
