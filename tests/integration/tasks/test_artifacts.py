"""Artifacts: kept only by the attempt that runs, shown only once it has ended."""

from __future__ import annotations

import io

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from app.db import transaction
from app.errors import NotFound
from app.tasks import artifacts, lease, recover
from app.tasks.cancel import cancel
from app.tasks.finish import finish
from app.tasks.retry import retry
from tests.support import (
    CANCELLED,
    FAILED,
    HANDED_BACK,
    SUCCEEDED,
    Aside,
    Claim,
    a_claim,
    end,
    eventually,
    lapse,
    put,
    running,
    scalar,
    sql,
    start,
    status,
)

pytestmark = pytest.mark.usefixtures("clawq")


def keep(ours: Claim, name: str = "a.txt", content: bytes = b"abc") -> bool:
    with transaction() as db:
        return artifacts.keep(db, ours.id, ours.attempt, name, io.BytesIO(content))


def names(task_id: str) -> list[str]:
    with transaction() as db:
        return [kept.name for kept in artifacts.listing(db, task_id)]


def read(task_id: str, name: str) -> bytes:
    with transaction() as db:
        kept = artifacts.get(db, task_id, name)
        return artifacts.piece(db, kept, 0, kept.size)


def stored() -> int:
    return scalar("SELECT count(*) FROM artifacts")


def again(task_id: str) -> Claim:
    """A manual retry, and the attempt that follows."""
    with transaction() as db:
        retry(db, task_id)
    return start(task_id)


@pytest.mark.parametrize("content", [b"", b"\0\xff\\'%s", bytes(range(251)) * 4096], ids=["empty", "odd", "large"])
def test_what_is_kept_is_read_byte_for_byte(content: bytes) -> None:
    ours = running()
    assert keep(ours, "out/é \n'.bin", content)
    end((ours, SUCCEEDED))
    with transaction() as db:
        (kept,) = artifacts.listing(db, ours.id)
    assert (kept.name, kept.size) == ("out/é \n'.bin", len(content))
    assert read(ours.id, kept.name) == content


def test_a_large_file_is_stored_as_it_is_and_read_piece_by_piece() -> None:
    ours = running()
    assert keep(ours, content=b"x" * 1_000_000)
    assert scalar("SELECT pg_column_size(content) FROM artifacts") >= 1_000_000
    end((ours, SUCCEEDED))
    with transaction() as db:
        kept = artifacts.get(db, ours.id, "a.txt")
        assert artifacts.piece(db, kept, 999_990, 100) == b"x" * 10


def test_files_kept_in_one_transaction_do_not_mix() -> None:
    ours = running()
    with transaction() as db:
        for name in ("b", "a"):
            assert artifacts.keep(db, ours.id, ours.attempt, name, io.BytesIO(name.encode()))
    end((ours, SUCCEEDED))
    assert names(ours.id) == ["a", "b"]
    assert (read(ours.id, "a"), read(ours.id, "b")) == (b"a", b"b")


def test_the_same_name_again_replaces() -> None:
    ours = running()
    assert keep(ours, content=b"long before")
    assert keep(ours, content=b"now")
    end((ours, SUCCEEDED))
    with transaction() as db:
        assert [kept.size for kept in artifacts.listing(db, ours.id)] == [3]
    assert read(ours.id, "a.txt") == b"now"


@pytest.mark.parametrize("state", ["pending", "queued", "succeeded", "failed", "cancelled", "skipped"])
def test_nothing_is_kept_of_a_task_that_does_not_run(state: str) -> None:
    task_id = put(state)
    for attempt in (0, 1):
        assert not keep(a_claim(id=task_id, attempt=attempt))
    assert not keep(a_claim())
    assert stored() == 0


def test_an_attempt_that_was_taken_back_keeps_nothing_more() -> None:
    late = running()
    assert keep(late, "half")
    lapse(late.id)
    with transaction() as db:
        assert recover.take_back(db) == 1
    assert not keep(late, "late")
    assert names(late.id) == [], "half a set"
    new = start(late.id)
    assert not keep(late, "late")
    assert keep(new, "new")
    end((new, SUCCEEDED))
    assert names(late.id) == ["new"]
    assert stored() == 1


def test_a_file_that_is_kept_while_its_attempt_ends_comes_too_late() -> None:
    ours = running()
    with transaction() as db:
        finish(db, [(ours, SUCCEEDED)])
        late = Aside(lambda other: artifacts.keep(other, ours.id, ours.attempt, "late", io.BytesIO(b"x")))
        eventually(late.is_blocked)
    assert late.join() is False
    assert stored() == 0


def test_an_end_waits_for_a_file_that_is_being_kept_and_a_heartbeat_does_not() -> None:
    ours = running()
    with transaction() as db:
        assert artifacts.keep(db, ours.id, ours.attempt, "a", io.BytesIO(b"x"))
        with transaction() as other:
            other.execute(text("SET LOCAL lock_timeout = '1s'"))
            assert lease.heartbeat(other, [(ours.id, ours.attempt)])
        ending = Aside(lambda other: finish(other, [(ours, SUCCEEDED)]))
        eventually(ending.is_blocked)
    assert ending.join() == {ours.id}
    assert names(ours.id) == ["a"]


@pytest.mark.parametrize("outcome", [SUCCEEDED, FAILED, CANCELLED], ids=lambda outcome: outcome.kind)
def test_a_set_is_shown_once_its_attempt_has_ended_however(outcome) -> None:
    ours = running()
    assert keep(ours, "b")
    assert keep(ours, "B")
    assert keep(ours, "a/b")
    assert names(ours.id) == []
    with pytest.raises(NotFound):
        read(ours.id, "b")
    end((ours, outcome))
    assert names(ours.id) == ["B", "a/b", "b"]
    with pytest.raises(NotFound, match="none"):
        read(ours.id, "none")


def test_what_a_leaving_worker_kept_is_not_shown() -> None:
    ours = running()
    assert keep(ours)
    end((ours, HANDED_BACK))
    assert names(ours.id) == []


def test_a_failed_attempt_s_set_is_there_until_the_next_attempt_begins() -> None:
    first = running(max_attempts=2)
    assert keep(first, "first")
    end((first, FAILED))
    assert status(first.id) == "pending"
    assert names(first.id) == ["first"]
    with transaction() as db:
        kept = artifacts.get(db, first.id, "first")
    second = start(first.id)
    assert stored() == 0
    with transaction() as db, pytest.raises(NotFound, match="done again"):
        artifacts.piece(db, kept, 0, 1)
    end((second, SUCCEEDED))
    assert names(first.id) == []


def test_a_new_round_begins_without_the_files_of_the_old() -> None:
    first = running()
    assert keep(first, "first")
    end((first, FAILED))
    with transaction() as db:
        retry(db, first.id)
    assert names(first.id) == []
    with transaction() as db:
        cancel(db, first.id)
    assert names(first.id) == [], "of a round without an attempt"
    second = again(first.id)
    assert stored() == 0
    assert keep(second, "second")
    end((second, SUCCEEDED))
    assert names(first.id) == ["second"]


def test_a_claim_removes_only_what_its_own_task_kept() -> None:
    other, retried = running(), running(max_attempts=2)
    assert keep(other, "other")
    assert keep(retried)
    end((retried, FAILED))
    start(retried.id)
    end((other, SUCCEEDED))
    assert names(other.id) == ["other"]


def test_the_files_go_with_their_task() -> None:
    ours = running()
    assert keep(ours)
    sql("DELETE FROM tasks WHERE id = :id", id=ours.id)
    assert stored() == 0


def test_no_message_of_an_error_holds_the_content() -> None:
    def refused() -> None:
        with transaction() as db:
            db.execute(artifacts._PIECES)
            db.execute(text("ALTER TABLE pieces ADD CHECK (octet_length(content) = 0)"))
            try:
                artifacts.keep(db, "t", 1, "a", io.BytesIO(b"secret"))
            finally:
                db.rollback()

    with pytest.raises(DBAPIError, match="violates check") as raised:
        refused()
    assert "secret" not in str(raised.value)
