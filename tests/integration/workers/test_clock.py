"""The clock: each tick does every duty, and no failure of one stops it."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from app import epoch
from app.celery import celery_app
from app.queues import ADMIT, ADVANCE, DELIVER, RUN
from app.settings import settings
from app.tasks import recover
from tests.fleet import a_step, post_flow
from tests.integration.messages.hands import some_agents, write
from tests.support import (
    employ,
    empty_redis,
    envelopes,
    kinds,
    lapse,
    let_in,
    post_one,
    put,
    running,
    scalar,
    sql,
    status,
    take,
    together,
)  # fmt: skip
from workers import clock as clock_
from workers.clock import Clock


@pytest.fixture
def clock(clawq: pytest.MonkeyPatch) -> Iterator[Clock]:
    """A clock that a test ticks by hand."""
    clawq.setenv("CLAWQ_HEALTH_PORT", "0")
    settings.cache_clear()
    made = Clock(app=celery_app, lazy=True)
    yield made
    if made._server:
        made._server.close()


def get(clock: Clock, path: str) -> tuple[int, bytes]:
    assert clock._server
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{clock._server.port}{path}", timeout=10) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as refused:
        with refused:
            return refused.code, refused.read()


def test_a_tick_does_every_duty(clock: Clock) -> None:
    lost, late, unheard = running(), put("pending"), put("queued", task_type="python", payload={"code": "1"})
    gone = employ(agent_id="gone")
    due = post_one(delay_s=60)
    lapse(lost.id)
    sql("UPDATE tasks SET deadline = now() WHERE id = :id", id=late)
    sql("UPDATE tasks SET next_dispatch_at = now() WHERE id = :id", id=unheard)
    sql("UPDATE tasks SET available_at = now() WHERE id = :id", id=due)
    stalled = post_flow(a_step("a"))
    write(*some_agents(2))
    sql("UPDATE messages SET created_at = now() - interval '2 s'")
    sql("UPDATE workers SET heartbeat_at = now() - interval '1 hour' WHERE agent_id = :id", id=gone)
    sql("INSERT INTO idempotency VALUES ('o', 'r', 'k', '', 200, '{}', NULL, now() - interval '2 days')")
    empty_redis()
    wait = clock.tick()
    assert 0 <= wait <= 1
    assert (kinds(lost.id)[-1], kinds(late)[-1]) == ("lease_expired", "failed")
    assert envelopes("execution") == [(RUN, [[unheard]])]
    assert envelopes("gateway") == [(ADMIT, []), (DELIVER, [])]
    assert envelopes("coordinator") == [(ADVANCE, [[stalled]])]
    assert scalar("SELECT status FROM agents WHERE id = :id", id=gone) == "inactive"
    assert scalar("SELECT count(*) FROM idempotency") == 0


def test_what_a_redis_lost_with_its_data_is_sent_within_one_tick(clock: Clock) -> None:
    clock.tick()
    queued, _ = put("queued"), put("pending")
    empty_redis()
    epoch._rests_until = 0.0
    clock.tick()
    assert envelopes("execution") == [(RUN, [[queued]])]
    assert envelopes("gateway") == [(ADMIT, [])]


def test_what_is_overdue_is_not_sent_again(clock: Clock) -> None:
    task_id = put("queued")
    sql("UPDATE tasks SET next_dispatch_at = now(), deadline = now()")
    empty_redis()
    clock.tick()
    assert (status(task_id), envelopes("execution")) == ("failed", [])


def test_a_tick_with_nothing_to_do_changes_nothing(clock: Clock) -> None:
    task_id = put("succeeded")
    empty_redis()
    for _ in range(3):
        clock.tick()
    assert status(task_id) == "succeeded"
    assert envelopes("gateway") == []


def test_a_duty_that_fails_keeps_neither_the_others_nor_the_next_tick_from_their_work(
    clock: Clock, clawq: pytest.MonkeyPatch
) -> None:
    def broken(_: object) -> None:
        raise OperationalError("UPDATE", {}, Exception("gone"))

    task_id = put("pending")
    sql("UPDATE tasks SET deadline = now()")
    with pytest.MonkeyPatch.context() as outage:
        outage.setattr(clock_, "_DUTIES", (broken, *clock_._DUTIES[1:]))
        assert clock.tick() <= 1
        assert status(task_id) == "pending", "expire was the broken one"
    clock.tick()
    assert status(task_id) == "failed"


def test_ends_that_take_too_long_together_are_written_one_by_one(clock: Clock, clawq: pytest.MonkeyPatch) -> None:
    def slow(db: Any, batch: int | None = None) -> int:
        if batch is None:
            db.execute(text("SET LOCAL statement_timeout = 1; SELECT pg_sleep(1)"))
        return recover.expire(db, batch)

    for _ in range(5):
        post_one()
    sql("UPDATE tasks SET deadline = now()")
    clawq.setattr(clock_, "_DUTIES", (slow,))
    clawq.setattr(clock_, "_HEAVY", (slow,))
    clock.tick()
    assert scalar("SELECT count(*) FROM tasks WHERE status = 'failed'") == 5


def test_a_clock_survives_a_postgres_that_is_away(clock: Clock, clawq: pytest.MonkeyPatch) -> None:
    def away() -> None:
        raise OperationalError("SELECT", {}, Exception("connection refused"))

    task_id = put("pending")
    sql("UPDATE tasks SET deadline = now()")
    with pytest.MonkeyPatch.context() as outage:
        outage.setattr(clock_, "statements", away)
        for _ in range(2):
            assert clock.tick() <= 1
        assert clock._done_at == 0
        assert clock._health()[0]
        assert not clock._ready()[0]
    clock.tick()
    assert status(task_id) == "failed"


def test_a_duty_that_breaks_does_not_keep_the_others_from_being_done(clock: Clock, clawq: pytest.MonkeyPatch) -> None:
    def broken(_db: object) -> None:
        raise KeyError("javascript")

    task_id = put("pending")
    sql("UPDATE tasks SET deadline = now()")
    clawq.setattr(clock_, "_DUTIES", (broken, *clock_._DUTIES))
    clock.tick()
    assert status(task_id) == "failed"


def test_a_task_of_a_newer_version_stops_nobody(clock: Clock, clawq: pytest.MonkeyPatch) -> None:
    newer, other = put("queued"), put("queued")
    sql("UPDATE tasks SET next_dispatch_at = now()")
    sql("UPDATE tasks SET task_type = 'haskell' WHERE id = :id", id=newer)
    empty_redis()
    clock.tick()
    assert envelopes("execution") == [("tasks.run", [[other]])]
    assert take(newer) == []


def test_a_large_backlog_is_worked_off_in_batches_and_bounded_a_tick(clock: Clock, clawq: pytest.MonkeyPatch) -> None:
    clawq.setattr(recover, "BATCH", 2)
    for _ in range(30):
        post_one()
    sql("UPDATE tasks SET deadline = now()")
    clock.tick()
    failed = scalar("SELECT count(*) FROM tasks WHERE status = 'failed'")
    assert failed == 2 * clock_._ROUNDS
    clock.tick()
    assert scalar("SELECT count(*) FROM tasks WHERE status = 'failed'") == 30


def test_two_clocks_are_harmless(clock: Clock) -> None:
    other = Clock(app=celery_app, lazy=True)
    employ()
    ids = [running().id for _ in range(10)]
    for task_id in ids:
        lapse(task_id)
    together(clock.tick, other.tick)
    assert all(kinds(i) == ["accepted", "queued", "running", "lease_expired"] for i in ids)
    let_in()
    assert other._server
    other._server.close()


def test_health_says_whether_it_ticks(clock: Clock, clawq: pytest.MonkeyPatch) -> None:
    clock.tick()
    for path in ("/health", "/ready"):
        code, body = get(clock, path)
        assert (code, json.loads(body)["status"]) == (200, "ok")
    assert get(clock, "/none")[0] == 404
    code, body = get(clock, "/metrics")
    assert code == 200
    assert b"lease_expiries_total" in body
    clock._ticked_at -= 3600
    code, body = get(clock, "/health")
    assert (code, json.loads(body)["status"]) == (503, "unavailable")


def test_making_a_clock_connects_to_nothing(environment: pytest.MonkeyPatch) -> None:
    made = Clock(app=celery_app, lazy=True)
    assert made._server is None
    assert "Clock" in repr(made)
