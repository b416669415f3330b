"""Long-polls: woken by news, looking by themselves without, and never in the way of others."""

from __future__ import annotations

import time
from typing import Any

import pytest

from api import news as news_
from app import db as app_db
from app import publisher
from app.settings import settings
from tests import support
from tests.integration.api.conftest import Caller


def waiting(task_id: str) -> bool:
    return task_id in news_.news()._waiters


def subscribed() -> bool:
    return bool(publisher.client().pubsub_numsub(publisher.NEWS)[0][1])


class Timed:
    """A request in a thread of its own."""

    def __init__(self, caller: Caller, path: str) -> None:
        self._started = time.monotonic()
        self._thread = support.threading.Thread(target=self._run, args=(caller, path))
        self._thread.start()

    def _run(self, caller: Caller, path: str) -> None:
        self.response = caller.call("GET", path)
        self.seconds = time.monotonic() - self._started

    def join(self) -> Any:
        self._thread.join(30)
        assert not self._thread.is_alive()
        return self.response.get_json()


def test_a_wait_ends_when_the_task_does(ada: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    # Without its own looks, only the notice can end the wait in time.
    monkeypatch.setattr("api.news.POLL_S", 60)
    claim = support.running()
    request = Timed(ada, f"/tasks/{claim.id}?wait=20")
    support.eventually(lambda: waiting(claim.id) and subscribed())
    support.end((claim, support.SUCCEEDED))
    task = request.join()
    assert (task["status"], task["result"]) == ("succeeded", {"answer": 42})
    assert request.seconds < 10
    assert not waiting(claim.id)


def test_news_that_end_nothing_do_not_end_the_wait(ada: Caller) -> None:
    claim = support.running()
    request = Timed(ada, f"/tasks/{claim.id}?wait=20")
    support.eventually(lambda: waiting(claim.id) and subscribed())
    publisher.tell([claim.id])
    assert support.eventually(lambda: waiting(claim.id))
    support.end((claim, support.FAILED))
    assert request.join()["status"] == "failed"


def test_a_wait_without_redis_looks_by_itself(clawq: pytest.MonkeyPatch, ada: Caller) -> None:
    claim = support.running()
    clawq.setenv("REDIS_URL", "redis://127.0.0.1:1/0")
    for cached in (settings, publisher.client, publisher._connections):
        cached.cache_clear()
    request = Timed(ada, f"/tasks/{claim.id}?wait=20")
    support.eventually(lambda: waiting(claim.id))
    support.end((claim, support.SUCCEEDED))
    assert request.join()["status"] == "succeeded"
    assert request.seconds < 10


def test_a_wait_outlives_a_lost_subscription(ada: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.news.POLL_S", 60)
    claim = support.running()
    request = Timed(ada, f"/tasks/{claim.id}?wait=30")
    support.eventually(lambda: waiting(claim.id) and subscribed())
    publisher.client().client_kill_filter(_type="pubsub")
    support.eventually(subscribed)
    support.end((claim, support.SUCCEEDED))
    assert request.join()["status"] == "succeeded"
    assert request.seconds < 20


def test_a_wait_ends_when_its_time_is_up(ada: Caller) -> None:
    task_id = support.post_one()
    before = time.monotonic()
    assert ada.get(f"/tasks/{task_id}?wait=0.2")["status"] == "pending"
    assert 0.2 <= time.monotonic() - before < 5


def test_a_task_that_has_ended_is_not_waited_for(ada: Caller) -> None:
    request = Timed(ada, f"/tasks/{support.put('failed')}?wait=60")
    assert request.join()["status"] == "failed"
    assert request.seconds < 5


def test_too_many_waits_are_answered_at_once_and_others_wait_all_the_same(ada: Caller, admin: Caller) -> None:
    task_id = support.post_one()
    most = news_.MOST_WAITERS // 2
    waits = [Timed(ada, f"/tasks/{task_id}?wait=20") for _ in range(most)]
    support.eventually(lambda: len(news_.news()._waiters.get(task_id, ())) == most)
    one_more = Timed(ada, f"/tasks/{task_id}?wait=20")
    assert one_more.join()["status"] == "pending"
    assert one_more.response.headers["Retry-After"] == "1"
    assert one_more.seconds < 10
    waits.append(Timed(admin, f"/tasks/{task_id}?wait=20"))
    support.eventually(lambda: len(news_.news()._waiters.get(task_id, ())) == most + 1)
    ada.post(f"/tasks/{task_id}/cancel", status=200)
    assert {wait.join()["status"] for wait in waits} == {"cancelled"}


def test_no_connection_is_held_while_waiting(ada: Caller) -> None:
    task_id = support.post_one()
    request = Timed(ada, f"/tasks/{task_id}?wait=20")
    support.eventually(lambda: waiting(task_id))
    support.eventually(lambda: app_db.engine().pool.checkedout() == 0)  # type: ignore[attr-defined]
    ada.post(f"/tasks/{task_id}/cancel", status=200)
    request.join()


def test_another_owner_s_task_is_not_waited_for(ada: Caller, bob: Caller) -> None:
    assert bob.get(f"/tasks/{support.post_one()}?wait=60", status=404)
