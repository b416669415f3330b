"""Epoch: a Redis that lost its data is noticed, once, and its envelopes are sent again at once."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import redis
from sqlalchemy.orm import Session

from app import epoch, metrics, publisher
from app.db import transaction
from app.local import services
from app.settings import settings
from app.tasks import recover
from tests.support import empty_redis, envelopes, lapse, put, row, running, scalar, sql, status, together

pytestmark = pytest.mark.usefixtures("clawq")

_DUE = "SELECT count(*) FROM tasks WHERE next_dispatch_at <= now()"


def watch() -> None:
    """One look, as after a rest."""
    epoch._rests_until = 0.0
    with transaction() as db:
        epoch.watch(db)


def due() -> int:
    return int(scalar(_DUE))


def stored() -> bytes | None:
    return publisher.client().get(epoch._KEY)


@pytest.fixture
def known() -> str:
    """Redis as it is, known to the clock. Returns its run_id."""
    watch()
    return str(publisher.client().info("server")["run_id"])


def test_a_redis_that_kept_its_data_changes_nothing(known: str) -> None:
    task_id = put("queued")
    before = row(task_id)
    watch()
    assert stored() == known.encode()
    assert row(task_id) == before


@pytest.mark.parametrize("loss", ["flushed", "another server's"])
def test_every_queued_task_is_due_when_redis_lost_its_data(known: str, loss: str) -> None:
    ids = [put("queued"), put("queued", task_type="python", payload={"code": "1"})]
    others = [put("pending", delay_s=600), running().id, put("succeeded")]
    lapse(others[1])
    before = [row(i) for i in others]
    empty_redis()
    if loss != "flushed":
        publisher.client().set(epoch._KEY, "0" * 40)
    count = metrics.REDIS_LOSSES._value.get()
    watch()
    assert due() == len(ids)
    assert stored() == known.encode()
    assert metrics.REDIS_LOSSES._value.get() == count + 1
    assert [row(i) for i in others] == before
    with transaction() as db:
        assert recover.redispatch(db) == len(ids)
    assert sorted(ids for _, (ids,) in envelopes("execution")) == sorted([[i] for i in ids])


def test_what_is_sent_again_keeps_its_count_and_its_backoff(known: str) -> None:
    task_id = put("queued")
    sql("UPDATE tasks SET dispatches = 3, next_dispatch_at = now() + interval '240 seconds'")
    empty_redis()
    watch()
    with transaction() as db:
        recover.redispatch(db)
    assert row(task_id).dispatches == 4
    assert scalar("SELECT next_dispatch_at > now() + interval '200 seconds' FROM tasks")


def test_the_key_waits_for_the_commit(known: str) -> None:
    task_id = put("queued")
    empty_redis()
    epoch._rests_until = 0.0

    def crash(db: Session) -> None:
        epoch.watch(db)
        assert stored() is None
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), transaction() as db:
        crash(db)
    assert stored() is None
    assert due() == 0
    watch()
    assert due() == 1
    assert status(task_id) == "queued"


def test_a_redis_that_was_replaced_meanwhile_is_noticed_next_time(known: str, clawq: pytest.MonkeyPatch) -> None:
    """The key is written with the run_id that was read, not with that of the server that answers by then."""
    empty_redis()
    with pytest.MonkeyPatch.context() as earlier:
        earlier.setattr(epoch, "_look", lambda: [("", "the one before")])
        watch()
    assert stored() == b"the one before"
    put("queued")
    watch()
    assert (due(), stored()) == (1, known.encode())


def test_a_redis_that_is_away_is_no_error_and_nothing_is_sent(known: str, clawq: pytest.MonkeyPatch) -> None:
    put("queued")
    publisher.client.cache_clear()
    clawq.setenv("REDIS_URL", "redis://127.0.0.1:1/0")
    settings.cache_clear()
    watch()
    watch()
    assert due() == 0


def test_a_redis_that_was_away_and_is_back_lost_what_was_sent_meanwhile(
    known: str, clawq: pytest.MonkeyPatch, redis_url: str
) -> None:
    long_ago, _ = put("queued"), put("queued")
    sql("UPDATE tasks SET last_dispatched_at = now() - interval '1 minute' WHERE id = :id", id=long_ago)
    for url in ("redis://127.0.0.1:1/0", redis_url):
        assert due() == 0
        clawq.setenv("REDIS_URL", url)
        settings.cache_clear()
        publisher.client.cache_clear()
        publisher._breaker.succeeded()
        watch()
    assert due() == 1, "what was sent before is where it was"
    sql("UPDATE tasks SET next_dispatch_at = now() + interval '1 minute'")
    watch()
    assert due() == 0, "once"


def test_a_redis_that_refuses_to_answer_this_is_still_published_to(known: str, redis_url: str) -> None:
    admin = publisher.client()
    name = "no_info"
    admin.acl_setuser(name, enabled=True, nopass=True, keys="*", channels="*", commands=["+@all", "-info"])
    put("queued")
    limited = redis.Redis.from_url(redis_url.replace("redis://:", f"redis://{name}:"))
    try:
        with pytest.MonkeyPatch.context() as user:
            user.setattr(publisher, "client", lambda: limited)
            watch()
            assert publisher.answers(), "the circuit is open"
            assert epoch._rests_until > time.monotonic(), "one warning a tick"
        assert due() == 0
    finally:
        limited.close()
        admin.acl_deluser(name)


def test_a_redis_that_flaps_is_answered_once_a_rest(known: str) -> None:
    put("queued")
    empty_redis()
    watch()
    assert due() == 1
    sql("UPDATE tasks SET next_dispatch_at = now() + interval '30 seconds'")
    empty_redis()
    with transaction() as db:
        epoch.watch(db)
    assert (due(), stored()) == (0, None)
    assert epoch._rests_until <= time.monotonic() + epoch._REST_S
    watch()
    assert due() == 1


def test_two_clocks_that_notice_together_are_harmless(known: str) -> None:
    ids = {put("queued", task_type="python", payload={"code": "1"}) for _ in range(20)}
    empty_redis()

    def tick() -> None:
        watch()
        with transaction() as db:
            recover.redispatch(db)

    results = together(tick, tick)
    assert results == [None, None]
    watch()
    with transaction() as db:
        recover.redispatch(db)
    assert {ids[0] for _, (ids,) in envelopes("execution")} == ids
    assert stored() == known.encode()


def test_a_clock_does_not_write_the_key_for_rows_that_another_has_in_hand(known: str) -> None:
    put("queued")
    empty_redis()
    with transaction() as db:
        db.execute(epoch._LOCK)
        watch()
    assert (due(), stored()) == (0, None)


def test_a_restart_without_its_data_is_noticed(clawq: pytest.MonkeyPatch, tmp_path: Path) -> None:
    put("queued")
    for restarted in (False, True):
        with services.valkey(tmp_path) as url:
            clawq.setenv("REDIS_URL", url)
            settings.cache_clear()
            publisher.client.cache_clear()
            publisher._breaker.succeeded()
            sql("UPDATE tasks SET next_dispatch_at = now() + interval '30 seconds'")
            before = stored()
            assert bool(before) is restarted, "the server keeps what it is told: only its run_id is new"
            watch()
            assert due() == 1
            assert stored() != before
            publisher.client().close()


def test_nothing_queued_is_fine() -> None:
    watch()
    assert stored()
    assert due() == 0
