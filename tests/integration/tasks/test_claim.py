"""Claim and lease: one winner, under a new attempt; an old attempt can write nothing."""

from __future__ import annotations

from functools import partial

import pytest

from app.db import transaction
from app.queues import ADMIT
from app.settings import settings
from app.tasks import lease, recover
from app.tasks.finish import finish
from app.tasks.report import record_container, report
from schema.tasks import EventKind
from tests.support import (
    FAILED,
    HANDED_BACK,
    OWNER,
    SUCCEEDED,
    Claim,
    a_task,
    employ,
    empty_redis,
    end,
    envelopes,
    events,
    kinds,
    lapse,
    let_in,
    post,
    post_one,
    put,
    row,
    running,
    scalar,
    snapshot,
    sql,
    start,
    status,
    take,
    together,
)  # fmt: skip

pytestmark = pytest.mark.usefixtures("clawq")


def test_a_claim_sets_the_lease_and_opens_an_attempt() -> None:
    task_id = put("queued", payload={"n": 1}, max_attempts=4)
    (ours,) = take(task_id, worker="w@h")
    task = row(task_id)
    assert ours == Claim(task_id, 1, OWNER, "echo", {"n": 1}, 0, 0, 4, None)
    assert (task.status, task.attempt, task.lease_owner, task.next_dispatch_at) == ("running", 1, "w@h", None)
    assert scalar("SELECT lease_until - started_at = :s * interval '1 second' FROM tasks", s=settings().lease_s), (
        "the lease counts from Postgres' own time"
    )
    ((attempt, worker, ended),) = sql("SELECT attempt, worker, ended_at FROM attempts")
    assert (attempt, worker, ended) == (1, "w@h", None)
    assert events(task_id)[-1].data == {"worker": "w@h"}


SANDBOX = {"images": {"python": "science:2"}, "runtime": "runsc"}


def test_a_program_s_claim_brings_what_its_agent_says_of_sandboxes() -> None:
    employ(sandbox=SANDBOX)
    employ(agent_id="other", max_running=9)
    code = {"code": "1"}
    ours, theirs = (post_one(task_type="python", payload=code, assigned_to=a) for a in ("execution_agent", "other"))
    inline = post_one(assigned_to="execution_agent")
    let_in()
    claims = {claim.id: claim.sandbox for claim in take(ours, theirs, inline)}
    assert claims == {ours: SANDBOX, theirs: None, inline: None}
    sql("UPDATE agents SET configuration = NULL")
    again = post_one(task_type="shell", payload=code)
    assert start(again).sandbox is None


def test_an_envelope_that_comes_again_claims_nothing() -> None:
    task_id = put("queued")
    assert len(take(task_id, task_id)) == 1
    assert take(task_id) == []
    assert take("no such id") == []
    assert take() == []


def test_of_many_threads_that_claim_the_same_tasks_each_task_goes_to_one() -> None:
    employ()
    ids = post(*[a_task()] * 30)
    let_in()
    forwards = [partial(take, *ids, worker=f"w{n}") for n in range(6)]
    backwards = [partial(take, *reversed(ids), worker=f"b{n}") for n in range(6)]
    claims = [claim for claims in together(*forwards, *backwards) for claim in claims]
    assert sorted(claim.id for claim in claims) == sorted(ids)
    assert {claim.attempt for claim in claims} == {1}
    assert scalar("SELECT count(*) FROM attempts") == 30
    assert all(kinds(i) == ["accepted", "queued", "running"] for i in ids)


def test_the_gateway_is_rung_when_a_claim_makes_room_for_more(clawq: pytest.MonkeyPatch) -> None:
    clawq.setenv("CLAWQ_WINDOW", "1")
    settings.cache_clear()
    employ()
    first, second = post(a_task(), a_task())
    let_in()
    assert (status(first), status(second)) == ("queued", "pending")
    empty_redis()
    take(first)
    assert envelopes("gateway") == [(ADMIT, [])]
    let_in()
    empty_redis()
    take(second)
    assert envelopes("gateway") == [], "nothing more is pending"


def _late(old: Claim) -> list[object]:
    """Everything that a worker can still say about an attempt, said late."""
    with transaction() as db:
        return [
            report(db, old.id, old.attempt, [(EventKind.PROGRESS, {"progress": 99})]),
            record_container(db, old.id, old.attempt, "late"),
            lease.look(db, [(old.id, old.attempt)]),
            lease.heartbeat(db, [(old.id, old.attempt)]),
            *(finish(db, [(old, o)]) for o in (SUCCEEDED, FAILED)),
        ]


@pytest.mark.parametrize("then", ["pending", "queued", "running", "succeeded"])
def test_a_late_word_of_an_attempt_that_was_taken_back_changes_nothing(then: str) -> None:
    old = running(max_attempts=3)
    lapse(old.id)
    with transaction() as db:
        recover.take_back(db)
    if then == "queued":
        let_in()
    elif then != "pending":
        new = start(old.id)
        assert new.attempt == old.attempt + 1
        if then == "succeeded":
            end((new, SUCCEEDED))
    assert status(old.id) == then
    before = snapshot(old.id)
    assert not any(_late(old))
    assert snapshot(old.id) == before


def test_an_attempt_that_was_handed_back_can_write_nothing_more() -> None:
    old = running()
    end((old, HANDED_BACK))
    before = snapshot(old.id)
    assert not any(_late(old))
    assert snapshot(old.id) == before


def test_a_heartbeat_extends_only_the_leases_that_are_held() -> None:
    mine, other = running(), running()
    sql("UPDATE tasks SET lease_until = now() + interval '1 second'")
    with transaction() as db:
        held = lease.heartbeat(db, [(mine.id, mine.attempt), (other.id, other.attempt + 1), ("none", 1)])
    assert held == {(mine.id, mine.attempt): lease.Held(cancelled=False, overdue=False)}
    assert row(mine.id).lease_until > row(other.id).lease_until


def test_a_look_extends_nothing() -> None:
    mine = running()
    before = row(mine.id)
    with transaction() as db:
        assert lease.look(db, [(mine.id, mine.attempt)])
    assert row(mine.id) == before


def test_the_holder_hears_of_a_cancel_and_of_its_deadline() -> None:
    cancelled, overdue, fine = running(), running(), running(deadline=None)
    sql("UPDATE tasks SET cancel_requested_at = now() WHERE id = :id", id=cancelled.id)
    sql("UPDATE tasks SET deadline = now() WHERE id = :id", id=overdue.id)
    pairs = [(c.id, c.attempt) for c in (cancelled, overdue, fine)]
    for ask in (lease.look, lease.heartbeat):
        with transaction() as db:
            held = ask(db, pairs)
        assert held[pairs[0]] == lease.Held(cancelled=True, overdue=False)
        assert held[pairs[1]] == lease.Held(cancelled=False, overdue=True)
        assert held[pairs[2]] == lease.Held(cancelled=False, overdue=False)


def test_nothing_held_asks_for_nothing() -> None:
    with transaction() as db:
        assert lease.heartbeat(db, []) == {}


def test_the_container_is_recorded_with_the_attempt_that_runs_it() -> None:
    first = running()
    with transaction() as db:
        assert record_container(db, first.id, 1, "c1")
    end((first, HANDED_BACK))
    second = start(first.id)
    with transaction() as db:
        assert not record_container(db, first.id, 1, "late")
        assert record_container(db, second.id, 2, "c2")
    assert [c for (c,) in sql("SELECT container_id FROM attempts ORDER BY attempt")] == ["c1", "c2"]


def test_progress_starts_again_with_each_attempt() -> None:
    first = running()
    with transaction() as db:
        report(db, first.id, 1, [(EventKind.PROGRESS, {"progress": 80})])
    end((first, HANDED_BACK))
    start(first.id)
    assert row(first.id).progress == 0


def test_a_task_past_its_deadline_is_not_started() -> None:
    task_id = post_one()
    employ()
    let_in()
    sql("UPDATE tasks SET deadline = now()")
    assert take(task_id) == []
    assert status(task_id) == "queued"
