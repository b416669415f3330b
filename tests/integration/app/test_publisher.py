"""Publishing: after commit, coalesced, bounded in time, and never a reason to fail."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from app import db as app_db
from app import metrics, publisher
from app.celery import celery_app
from app.db import after_commit, transaction
from app.local import servers
from app.local import valkey as valkey_
from app.local.files import private_dir
from app.queues import ADMIT, RUN, Queue
from app.settings import settings
from tests.support import (
    a_task,
    employ,
    empty_redis,
    envelopes,
    eventually,
    let_in,
    post,
    post_one,
    put,
    running,
    status,
)

pytestmark = pytest.mark.usefixtures("clawq")

#: Far more than the short time-outs add up to, far less than a hang.
PROMPT_S = 5


class Server:
    """A Valkey that a test may stop, freeze or restart on the same port."""

    def __init__(self, home: Path) -> None:
        private_dir(home)
        self._server = valkey_.prepare(home)
        self._log = home / "log"
        self._stack = ExitStack()
        self.url = self._server.url

    def start(self) -> None:
        self._process = self._stack.enter_context(servers.running(self._server, self._log))

    def stop(self) -> None:
        self._stack.close()

    @contextmanager
    def frozen(self) -> Iterator[None]:
        os.kill(self._process.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self._process.pid, signal.SIGCONT)


@pytest.fixture
def server(clawq: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Server]:
    """A Valkey of the test's own, which clawq uses."""
    own = Server(tmp_path / "own")
    own.start()
    clawq.setenv("REDIS_URL", own.url)
    _forget()
    yield own
    with suppress(Exception):
        own.stop()
    _forget()


def _forget() -> None:
    for cached in (settings, publisher.client, publisher._connections):
        cached.cache_clear()
    publisher._breaker.succeeded()


def quickly_post() -> str:
    started = time.monotonic()
    task_id = post_one()
    assert time.monotonic() - started < PROMPT_S
    return task_id


def test_an_envelope_holds_ids_and_nothing_else() -> None:
    publisher.send([(Queue.EXECUTION, ["a", "b"]), (Queue.MEMORY, ["c"])])
    assert envelopes("execution") == [(RUN, [["a", "b"]])]
    assert envelopes("memory") == [(RUN, [["c"]])]
    raw = json.loads(publisher.client().lindex("execution", 0))
    assert raw["content-type"] == "application/json"
    assert len(json.dumps(raw)) < 2000


def test_many_rings_are_one_envelope_until_somebody_answers() -> None:
    for _ in range(10):
        publisher.ring()
    assert envelopes("gateway") == [(ADMIT, [])]
    publisher.answer(Queue.GATEWAY)
    publisher.ring()
    publisher.ring()
    assert envelopes("gateway") == [(ADMIT, [])] * 2


def test_a_bell_that_was_lost_is_forgotten_by_itself() -> None:
    publisher.ring()
    expiry = publisher.client().pttl(publisher._bell(Queue.GATEWAY))
    assert 0 < expiry <= 2000


def test_a_bell_whose_envelope_was_not_sent_does_not_silence_the_next(clawq: pytest.MonkeyPatch) -> None:
    with pytest.MonkeyPatch.context() as broken:
        broken.setattr(celery_app, "send_task", lambda *_, **__: (_ for _ in ()).throw(OSError("gone")))
        publisher.ring()
    publisher._breaker.succeeded()
    publisher.ring()
    assert envelopes("gateway") == [(ADMIT, [])]


def test_news_are_ids_on_a_channel() -> None:
    with publisher.client().pubsub(ignore_subscribe_messages=True) as listener:
        listener.subscribe(publisher.NEWS)
        listener.get_message(timeout=5)
        task_id = post_one()
        employ()
        let_in()
        message = eventually(lambda: listener.get_message(timeout=1))
        assert json.loads(message["data"]) == [task_id]


def test_what_is_registered_runs_after_the_commit_and_once_a_key() -> None:
    said: list[str] = []
    with transaction() as db:
        after_commit(db, "a", lambda: said.append("first"))
        after_commit(db, "a", lambda: said.append("second"))
        after_commit(db, "b", lambda: said.append("other"))
        assert said == []
    assert said == ["second", "other"]


def test_a_rollback_runs_nothing() -> None:
    said: list[str] = []

    def fail() -> None:
        with transaction() as db:
            after_commit(db, "a", lambda: said.append("never"))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert said == []


def test_a_callback_that_fails_reaches_neither_the_caller_nor_the_other_callbacks() -> None:
    said: list[str] = []
    with transaction() as db:
        after_commit(db, "bad", lambda: 1 // 0)
        after_commit(db, "good", lambda: said.append("good"))
    assert said == ["good"]


def test_the_row_is_there_before_the_envelope(clawq: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    employ()
    task_id = post_one()
    clawq.setattr(publisher, "send", lambda sent: seen.extend(status(i) for _, ids in sent for i in ids))
    let_in()
    assert seen == [status(task_id)] == ["queued"]


def test_a_frozen_redis_delays_nobody_and_loses_nothing(server: Server) -> None:
    employ()
    post_one()
    with server.frozen():
        before = metrics.PUBLISH_FAILURES._value.get()
        ids = [quickly_post() for _ in range(5)]
        let_in()
        started = time.monotonic()
        running_now = [status(i) for i in ids]
        assert time.monotonic() - started < PROMPT_S
        assert running_now == ["queued"] * 5
        assert metrics.PUBLISH_FAILURES._value.get() > before
    publisher._breaker.succeeded()

    def rings() -> bool:
        publisher._breaker.succeeded()
        empty_redis()
        publisher.ring()
        return envelopes("gateway") == [(ADMIT, [])]

    eventually(rings)


def test_while_redis_is_down_tasks_are_accepted_and_afterwards_it_is_used_again(server: Server) -> None:
    post_one()
    server.stop()
    ids = post(*[a_task()] * 3)
    publisher._breaker.succeeded()
    ids.append(quickly_post())
    assert [status(i) for i in ids] == ["pending"] * 4
    server.start()

    def rings() -> bool:
        publisher._breaker.succeeded()
        publisher.ring()
        return (ADMIT, []) in envelopes("gateway")

    eventually(rings)


def test_a_full_redis_refuses_envelopes_and_accepts_them_later(server: Server) -> None:
    client = publisher.client()
    client.config_set("maxmemory-policy", "noeviction")
    client.config_set("maxmemory", 1)
    task_id = quickly_post()
    assert status(task_id) == "pending"
    client.config_set("maxmemory", 0)
    publisher._breaker.succeeded()
    publisher.ring()
    assert envelopes("gateway") == [(ADMIT, [])]


def test_connections_are_used_again() -> None:
    employ()
    connected = [publisher.client().info("clients")["connected_clients"]]
    for _ in range(20):
        post_one()
        let_in()
        publisher.answer(Queue.GATEWAY)
        connected.append(publisher.client().info("clients")["connected_clients"])
    assert connected[-1] <= connected[0] + 2
    assert put("running")
    assert running()


def test_the_pool_of_database_connections_bounds_every_statement() -> None:
    with transaction() as db:
        shown = {
            name: db.connection().exec_driver_sql(f"SHOW {name}").scalar_one()
            for name in ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout", "timezone")
        }
    assert shown == {
        "statement_timeout": "10s", "lock_timeout": "5s", "idle_in_transaction_session_timeout": "10s",
        "timezone": "UTC",
    }  # fmt: skip
    assert app_db.engine() is app_db.engine()
