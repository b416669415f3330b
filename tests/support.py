"""What tests of several floors share: tasks in any state, looks at rows, threads that start together, and waiting."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import httpx
from sqlalchemy import text

from app import agents, publisher
from app.db import transaction
from app.tasks.admit import admit
from app.tasks.cancel import cancel
from app.tasks.check import NewTask
from app.tasks.claim import Claim, claim
from app.tasks.finish import finish
from app.tasks.retry import Outcome
from app.tasks.submit import submit
from schema.base import new_id

OWNER = "ada"
WORKER = "execution@test"

SUCCEEDED = Outcome(kind="succeeded", result={"answer": 42})
FAILED = Outcome(kind="failed", error="It broke.")
INFRA = Outcome(kind="infra", error="The engine broke.")
HANDED_BACK = Outcome(kind="handed_back")
CANCELLED = Outcome(kind="cancelled")

#: Every state that a task can be in; `put` makes each.
STATES = ("pending", "queued", "running", "succeeded", "failed", "cancelled", "skipped")


#: Each request has a connection of its own, as by `httpx.get`, which reads all certificates of the machine each time.
HTTP = httpx.Client(limits=httpx.Limits(max_keepalive_connections=0))


def eventually(condition: Callable[[], Any], timeout: float = 20) -> Any:
    """Wait until `condition` is true, and return what it returned. Fails after `timeout` seconds."""
    started = time.monotonic()
    while not (value := condition()):
        waited = time.monotonic() - started
        assert waited < timeout, f"not within {timeout} s"
        # Looking is work, also for what is looked at: less often the longer it takes.
        time.sleep(min(0.1, max(0.002, waited / 20)))
    return value


def together(*actions: Callable[[], Any]) -> list[Any]:
    """Run `actions` in threads that start at the same moment. Returns their results; what one raises is a result."""
    barrier = threading.Barrier(len(actions))
    results: list[Any] = [None] * len(actions)

    def run(place: int, action: Callable[[], Any]) -> None:
        barrier.wait()
        try:
            results[place] = action()
        except Exception as exc:  # noqa: BLE001
            results[place] = exc

    threads = [threading.Thread(target=run, args=pair) for pair in enumerate(actions)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive(), "a thread hangs"
    return results


class Aside:
    """A transaction in a thread of its own: `Aside(f)` starts `f(db)`; `join()` returns what it returned."""

    def __init__(self, action: Callable[[Any], Any]) -> None:
        self._action = action
        self._result: Any = None
        self.pid: int | None = None
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            with transaction() as db:
                self.pid = db.scalar(text("SELECT pg_backend_pid()"))
                self._result = self._action(db)
        except Exception as exc:  # noqa: BLE001
            self._result = exc

    def is_blocked(self) -> bool:
        """Whether it waits for a lock that another transaction holds."""
        return self.pid is not None and bool(scalar("SELECT cardinality(pg_blocking_pids(:pid)) > 0", pid=self.pid))

    def is_over(self) -> bool:
        """Whether it has ended, one way or the other."""
        return not self._thread.is_alive()

    def join(self) -> Any:
        self._thread.join(60)
        assert not self._thread.is_alive(), "the transaction hangs"
        if isinstance(self._result, Exception):
            raise self._result
        return self._result


def sql(statement: str, **params: Any) -> list[Any]:
    """Run a statement in a transaction of its own."""
    with transaction() as db:
        result = db.execute(text(statement), params)
        return list(result) if result.returns_rows else []


def scalar(statement: str, **params: Any) -> Any:
    """The one value that a statement returns."""
    ((value,),) = sql(statement, **params)
    return value


def employ(role: str = "execution", agent_id: str | None = None, **policy: Any) -> str:
    """Let a worker of `role` register; returns its agent, whose configuration is `policy`."""
    agent_id = agent_id or f"{role}_agent"
    with transaction() as db:
        agents.heartbeat(db, worker=f"{agent_id}@test", agent_id=agent_id, role=role, info={})
        if policy:
            agents.update(db, agent_id, configuration=policy)
    return agent_id


def a_task(**values: Any) -> NewTask:
    """An echo task, or whatever `values` make of it."""
    return NewTask(**{"task_type": "echo", "payload": {}, **values})


def post(*tasks: NewTask, owner: str = OWNER) -> list[str]:
    """Submit tasks; returns their ids."""
    with transaction() as db:
        return submit(db, owner, tasks)


def post_one(owner: str = OWNER, **values: Any) -> str:
    """Submit one task; returns its id."""
    return post(a_task(**values), owner=owner)[0]


def let_in() -> bool:
    """One round of admission, in a transaction of its own."""
    with transaction() as db:
        return admit(db).more


def take(*ids: str, worker: str = WORKER) -> list[Claim]:
    """Claim tasks."""
    with transaction() as db:
        return claim(db, ids, worker)


def end(*ended: tuple[Claim, Outcome]) -> set[str]:
    """Finish claims."""
    with transaction() as db:
        return finish(db, ended)


def running(**values: Any) -> Claim:
    """A new task that this worker runs."""
    employ()
    return start(post_one(**values))


def start(task_id: str) -> Claim:
    """Admit and claim a task that exists."""
    sql("UPDATE tasks SET available_at = now() WHERE id = :id AND available_at > now()", id=task_id)
    let_in()
    (ours,) = take(task_id)
    return ours


def put(state: str, **values: Any) -> str:
    """A new task in `state`, brought there by the verbs; returns its id."""
    employ()
    if state == "skipped":
        parent = start(post_one())
        task_id = post_one(dependencies=[parent.id], **values)
        end((parent, FAILED))
        return task_id
    task_id = post_one(**values)
    if state == "cancelled":
        with transaction() as db:
            cancel(db, task_id)
    elif state != "pending":
        let_in()
    if state in ("running", "succeeded", "failed"):
        (ours,) = take(task_id)
        if state != "running":
            end((ours, SUCCEEDED if state == "succeeded" else FAILED))
    assert row(task_id).status == state
    return task_id


def row(task_id: str) -> Any:
    """A task as it stands in the table."""
    (found,) = sql("SELECT * FROM tasks WHERE id = :id", id=task_id)
    return found


def status(task_id: str) -> str:
    """The state of a task."""
    return row(task_id).status


def snapshot(task_id: str) -> tuple[Any, ...]:
    """Everything that is written about a task, for comparison."""
    return (
        tuple(row(task_id)),
        tuple(sql("SELECT * FROM events WHERE task_id = :id ORDER BY seq", id=task_id)),
        tuple(sql("SELECT * FROM attempts WHERE task_id = :id ORDER BY attempt", id=task_id)),
    )


def events(task_id: str) -> list[Any]:
    """The events of a task, in order."""
    return sql("SELECT * FROM events WHERE task_id = :id ORDER BY seq", id=task_id)


def kinds(task_id: str) -> list[str]:
    """The kinds of a task's events, in order; their numbers are checked to have no gap."""
    found = events(task_id)
    assert [event.seq for event in found] == list(range(1, len(found) + 1)), "a gap in seq"
    assert row(task_id).last_seq == len(found)
    return [event.kind for event in found]


def lapse(task_id: str) -> None:
    """Let the lease of a task run out."""
    sql("UPDATE tasks SET lease_until = now() - interval '1 second' WHERE id = :id", id=task_id)


def envelopes(queue: str) -> list[tuple[str, list[Any]]]:
    """What waits in a queue of Redis: (Celery job, arguments), oldest first."""
    return [opened(raw) for raw in reversed(publisher.client().lrange(queue, 0, -1))]


def empty_redis() -> None:
    """Forget all envelopes and bells."""
    publisher.client().flushdb()


def a_claim(**values: Any) -> Claim:
    """A claim that no row stands behind."""
    defaults: dict[str, Any] = {
        "id": new_id(), "attempt": 1, "owner": "o", "task_type": "python", "payload": {"code": "1"}, "failures": 0,
        "infra_failures": 0, "max_attempts": 1, "deadline": None,
    }  # fmt: skip
    return Claim(**{**defaults, **values})


def opened(raw: bytes) -> tuple[str, list[Any]]:
    """An envelope as it lies in Redis: (Celery job, arguments)."""
    message = json.loads(raw)
    args: Sequence[Any] = json.loads(base64.b64decode(message["body"]))[0]
    return message["headers"]["task"], list(args)
