"""Tasks: what a scenario posts, what became of it, and the check at its end.

A client as it should be: a POST that carries an Idempotency-Key is repeated until it is answered 2xx. Under load every
other one carries none, so that it shares a statement.
"""

from __future__ import annotations

import os
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psycopg2

from app.queues import Queue
from tests.chaos.invariants import Inside, check_invariants, left_behind
from tests.support import HTTP, eventually, opened

#: Says a word of its own as it starts, so that results can be told apart.
PROGRAM = """\
import os, secrets, sys, time
os.write(1, b"run %s\\n" % secrets.token_hex(8).encode())
time.sleep(float(sys.argv[1]))
print("done")
"""
#: A client's patience; the API answers within 12 s whatever Postgres does.
_CLIENT_S = 20
#: Seconds until all must be quiet; `make guards` has less patience with what will never be.
_SETTLE_S = float(os.environ.get("CLAWQ_SETTLE_S", "60"))
_ENDS = ("succeeded", "failed", "cancelled", "skipped")
# A queued task waits half a minute, one that a canvas was to bring ten seconds.
_HURRY = """
    WITH due AS (
        SELECT id FROM tasks
        WHERE status = 'queued' AND next_dispatch_at > now() AND last_dispatched_at < now() - interval '3 s'
           OR status = 'pending' AND carrier = 'canvas' AND deps_left = 0
              AND next_dispatch_at BETWEEN now() AND now() + interval '7 s'
        ORDER BY id FOR UPDATE SKIP LOCKED
    )
    UPDATE tasks t SET next_dispatch_at = now() FROM due WHERE t.id = due.id
"""
_OPEN = """
    SELECT id FROM tasks WHERE status <> ALL(%(ends)s)
    UNION ALL SELECT id FROM workflows WHERE status <> ALL(%(ends)s) LIMIT 1
"""


@dataclass(frozen=True)
class Answer:
    """What one POST was answered; status 0: nothing, the connection broke."""

    status: int
    seconds: float
    body: dict[str, Any]

    @property
    def accepted(self) -> bool:
        return 200 <= self.status < 300


class Tasks:
    """The tasks of one scenario."""

    def __init__(self, api_url: str, api_key: str, home: Path, *, patient: bool = False, processes: int = 10) -> None:
        """
        Args:
            api_url: the API.
            api_key: its key.
            home: of the stack.
            patient: wait for the clock's real half minute until an envelope is sent again; otherwise Postgres is told
                that three seconds are as long.
            processes: how many processes of the stack have a pool of connections.
        """
        self.inside = Inside(home)
        self.accepted: list[str] = []
        self.answers: list[Answer] = []
        self._url = f"{api_url}/api/v1"
        self._headers = {"Authorization": f"Bearer {api_key}"}
        self._patient = patient
        self._processes = processes
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(1)

    def close(self) -> None:
        """Forget about it."""
        self._pool.shutdown()

    def empty(self) -> None:
        """Forget all tasks there have been."""
        self.inside.sql("TRUNCATE workflows, tasks, edges, attempts, events, idempotency, artifacts")

    # Posting

    def try_to_post(self, key: str, task_type: str = "echo", *, repeatable: bool = True, **fields: Any) -> Answer:
        """POST a task once; one that is not repeatable shares its statement with others."""
        body = {"task_type": task_type, "payload": {"key": key}, "labels": {"key": key}, **fields}
        return self._post("/tasks", body, {"Idempotency-Key": key} if repeatable else {})

    def post(self, key: str | None = None, timeout: float = 60, **fields: Any) -> str:
        """POST a task until it is accepted; returns its id."""
        key = key or new_key()
        answer: Answer = eventually(lambda: a if (a := self.try_to_post(key, **fields)).accepted else None, timeout)
        return str(answer.body["id"])

    def echo(self, count: int, **fields: Any) -> list[str]:
        """Post tasks that a worker answers at once, all in one request; returns their ids."""
        return self._batch("echo", [{"n": n} for n in range(count)], fields)

    def programs(self, count: int, seconds: float, **fields: Any) -> list[str]:
        """Post programs that take so long, all in one request; returns their ids."""
        payload = {"code": PROGRAM, "args": [str(seconds)]}
        return self._batch("python", [payload] * count, fields)

    def program(self, seconds: float, **fields: Any) -> str:
        """Post one program that takes so long; returns its id."""
        return self.programs(1, seconds, **fields)[0]

    def flow(self, document: dict[str, Any]) -> str:
        """POST a workflow until it is accepted; returns its id."""
        once = {"Idempotency-Key": new_key()}
        answer: Answer = eventually(lambda: a if (a := self._post("/workflows", document, once)).accepted else None, 60)
        return str(answer.body["id"])

    def aside(self, key: str, *, repeatable: bool = True) -> Future[Answer]:
        """POST a task once, in a thread; `result()` is the answer."""
        return self._pool.submit(self.try_to_post, key, repeatable=repeatable)

    def cancel(self, task_id: str) -> Answer:
        """Ask for the end of a task."""
        return self._post(f"/tasks/{task_id}/cancel", {}, {})

    @contextmanager
    def load(self, per_s: float = 20, clients: int = 4) -> Iterator[None]:
        """Post echo tasks for the length of the block, every other one repeatable.

        Of those, what was not accepted is repeated after the block until it is; of the others, it may be there or not.
        """
        failed: dict[bool, list[str]] = {True: [], False: []}
        over = threading.Event()

        def client(repeatable: bool) -> None:
            while not over.wait(clients / per_s):
                key = new_key()
                if not self.try_to_post(key, repeatable=repeatable).accepted:
                    failed[repeatable].append(key)

        threads = [threading.Thread(target=client, args=(number % 2 == 0,)) for number in range(clients)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            over.set()
            for thread in threads:
                thread.join()
        for key in failed[True]:
            self.post(key)
        written = "SELECT id FROM tasks WHERE labels->>'key' = ANY(%(keys)s)"
        self.accepted += [row.id for row in self.inside.sql(written, keys=failed[False])]

    def _batch(self, task_type: str, payloads: list[dict[str, Any]], fields: dict[str, Any]) -> list[str]:
        bodies = [{"task_type": task_type, "payload": payload, **fields} for payload in payloads]
        answer = self._post("/tasks/batch", {"tasks": bodies}, {})
        assert answer.accepted, answer
        ids = [item["id"] for item in answer.body["items"]]
        self.accepted += ids
        return ids

    def _post(self, path: str, body: dict[str, Any], headers: dict[str, str]) -> Answer:
        started = time.monotonic()
        try:
            got = HTTP.post(self._url + path, json=body, headers=self._headers | headers, timeout=_CLIENT_S)
            answer = Answer(got.status_code, time.monotonic() - started, got.json())
        except (httpx.TransportError, ValueError):
            answer = Answer(0, time.monotonic() - started, {})
        with self._lock:
            self.answers.append(answer)
            if answer.accepted and path.startswith("/tasks") and (task_id := answer.body.get("id")):
                self.accepted.append(task_id)
        return answer

    # Looking

    def row(self, task_id: str) -> Any:
        """A task as it stands in the table."""
        (found,) = self.inside.sql("SELECT * FROM tasks WHERE id = %(id)s", id=task_id)
        return found

    def statuses(self) -> Counter[str]:
        """How many tasks are in which state."""
        return Counter(dict(self.inside.sql("SELECT status, count(*) FROM tasks GROUP BY status")))

    def kinds(self, task_id: str) -> list[str]:
        """The kinds of a task's events, in order; output and progress left out."""
        query = "SELECT kind FROM events WHERE task_id = %(id)s AND kind NOT IN ('log', 'progress') ORDER BY seq"
        return [row.kind for row in self.inside.sql(query, id=task_id)]

    def attempts(self, *ids: str) -> set[int]:
        """The numbers of attempts that these tasks took."""
        rows = self.inside.sql("SELECT DISTINCT attempt FROM tasks WHERE id = ANY(%(ids)s)", ids=list(ids))
        return {row.attempt for row in rows}

    def words(self) -> int:
        """How many programs have started, by the words that they said."""
        query = "SELECT count(DISTINCT substring(data->>'text' FROM '^run [0-9a-f]{16}')) AS n FROM events"
        return int(self.inside.sql(query)[0].n)

    def rows(self) -> list[Any]:
        """All tasks as they stand in the table."""
        return self.inside.sql("SELECT * FROM tasks")

    # Waiting

    def await_status(self, status: str, *ids: str) -> None:
        """Wait until all of these tasks are in this state."""
        query = "SELECT count(*) AS n FROM tasks WHERE id = ANY(%(ids)s) AND status = %(status)s"
        eventually(lambda: self.inside.sql(query, ids=list(ids), status=status)[0].n == len(ids), timeout=60)

    def await_dispatches(self, count: int, *ids: str, timeout: float) -> None:
        """Wait until that many envelopes have been sent for each of these tasks."""
        query = "SELECT count(*) AS n FROM tasks WHERE id = ANY(%(ids)s) AND dispatches >= %(count)s"
        eventually(lambda: self.inside.sql(query, ids=list(ids), count=count)[0].n == len(ids), timeout)

    def await_envelopes(self, *ids: str) -> None:
        """Wait until the envelopes of these tasks lie in Redis, and none is in a worker's hand."""

        def waiting() -> set[str]:
            with self.inside.redis() as redis:
                found = [opened(raw) for raw in redis.lrange(Queue.EXECUTION, 0, -1)]
            # The clock may have sent some again.
            return {task_id for _, (carried,) in found for task_id in carried}

        eventually(lambda: waiting() == set(ids))

    def await_accepted(self, count: int) -> None:
        """Wait until so many POSTs were accepted."""
        eventually(lambda: sum(answer.accepted for answer in self.answers) >= count, timeout=60)

    def await_refused(self, more: int) -> None:
        """Wait until so many more POSTs were not."""
        before = len(self.answers)
        eventually(lambda: sum(not answer.accepted for answer in self.answers[before:]) >= more, timeout=60)

    def await_age(self, task_id: str, seconds: float) -> None:
        """Wait until it is so long ago that this task was first started."""
        query = "SELECT 1 FROM attempts WHERE task_id = %(id)s AND started_at < now() - %(s)s * interval '1 s'"
        eventually(lambda: self.inside.sql(query, id=task_id, s=seconds), timeout=60)

    def let_pass(self, seconds: float) -> None:
        """Let time pass in which something might happen that must not."""
        (start,) = self.inside.sql("SELECT now() AS at")
        query = "SELECT 1 WHERE now() > %(start)s + %(s)s * interval '1 s'"
        eventually(lambda: self.inside.sql(query, start=start.at, s=seconds), timeout=60 + seconds)

    def pass_time(self, seconds: float) -> None:
        """Make the clock believe that so much time has passed since envelopes were sent."""
        self.inside.sql(
            "UPDATE tasks SET next_dispatch_at = next_dispatch_at - %(s)s * interval '1 s' WHERE status = 'queued'",
            s=seconds,
        )

    def holder(self, task_id: str, attempt: int = 1) -> str:
        """Wait until the program of this attempt has said its word; returns the process of the rig that runs it."""
        query = """
            SELECT a.worker FROM attempts a JOIN events e USING (task_id, attempt)
            WHERE task_id = %(id)s AND attempt = %(attempt)s AND e.kind = 'log'
        """
        found = eventually(lambda: self.inside.sql(query, id=task_id, attempt=attempt), timeout=60)
        return str(found[0].worker.partition("@")[0])

    def container(self, task_id: str, attempt: int) -> str:
        """The container that ran an attempt."""
        query = "SELECT container_id FROM attempts WHERE task_id = %(id)s AND attempt = %(attempt)s"
        return str(self.inside.sql(query, id=task_id, attempt=attempt)[0].container_id)

    # The end

    def settle(self, timeout: float = _SETTLE_S) -> Counter[str]:
        """Wait until all is quiet, then check what must hold. Returns how many tasks ended how."""
        try:
            eventually(self._quiet, timeout)
        except AssertionError:
            raise AssertionError(f"I1: not quiet within {timeout} s: {self.statuses()}") from None
        check_invariants(self.inside, self.accepted)
        remnant: list[Any] = []

        def clean() -> bool:
            remnant[:] = [left_behind(self.inside, self._processes)]
            return not remnant[0]

        try:
            eventually(clean, timeout=60)
        except AssertionError:
            raise AssertionError(f"I7, I8: left behind after a minute: {remnant}") from None
        return self.statuses()

    def hurry(self) -> None:
        """Unless we are patient, let three seconds be as long as whatever waits for an envelope would wait."""
        if not self._patient:
            self.inside.sql(_HURRY)

    def _quiet(self) -> bool:
        try:
            self.hurry()
            open_ = self.inside.sql(_OPEN, ends=list(_ENDS))
        except psycopg2.OperationalError:
            return False
        time.sleep(0.1)
        return not open_


def new_key() -> str:
    """An Idempotency-Key."""
    return uuid.uuid4().hex
