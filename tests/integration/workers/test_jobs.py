"""The Celery jobs in this process, with a node of the test's own and a sandbox that does what it is told."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from celery.exceptions import Reject
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from app import publisher
from app.db import transaction
from app.queues import ADMIT, Queue
from app.tasks import recover
from app.tasks.cancel import cancel
from tests.integration.workers.conftest import OK, FakeSandbox, queued
from tests.support import (
    a_task,
    envelopes,
    events,
    eventually,
    kinds,
    lapse,
    let_in,
    post,
    row,
    scalar,
    sql,
    status,
)  # fmt: skip
from workers.gateway import admit_pending
from workers.handlers import HANDLERS
from workers.node import Node
from workers.run import run
from workers.sandbox.spec import Callbacks, SandboxResult, SandboxSpec, Stop, Verdict


def in_background(task_id: str) -> threading.Thread:
    thread = threading.Thread(target=run, args=([task_id],))
    thread.start()
    eventually(lambda: status(task_id) != "queued")
    return thread


def finished(thread: threading.Thread) -> None:
    thread.join(30)
    assert not thread.is_alive(), "the job hangs"


def test_the_gateway_answers_the_bell_and_admits_batch_by_batch(worker: Node, clawq: pytest.MonkeyPatch) -> None:
    clawq.setattr("app.tasks.admit.BATCH", 4)
    post(*[a_task()] * 10)
    assert envelopes("gateway") == [(ADMIT, [])]
    admit_pending()
    assert scalar("SELECT count(*) FROM tasks WHERE status = 'queued'") == 10
    assert not publisher.client().exists(publisher._bell(Queue.GATEWAY))
    admit_pending()


def test_inline_tasks_of_an_envelope_end_together(worker: Node) -> None:
    ids = post(*(a_task(payload={"n": n}) for n in range(5)))
    admit_pending()
    ((_, (sent,)),) = envelopes("execution")
    run(sent)
    assert [row(i).result for i in ids] == [{"n": n} for n in range(5)]
    assert {row(i).lease_owner for i in ids} == {None}


def test_one_inline_task_that_fails_does_not_touch_the_others(worker: Node, clawq: pytest.MonkeyPatch) -> None:
    clawq.setitem(HANDLERS, "echo", lambda claim: {"inverse": 1 / claim.payload["n"]})
    ids = post(*(a_task(payload={"n": n}) for n in (0, 1)))
    admit_pending()
    run(ids)
    assert [status(i) for i in ids] == ["failed", "succeeded"]
    assert row(ids[0]).error == "ZeroDivisionError: division by zero"


def test_a_program_that_succeeds_leaves_its_result_its_container_and_its_output(
    worker: Node, sandbox: FakeSandbox
) -> None:
    def behave(_: SandboxSpec, stop: Stop, callbacks: Callbacks) -> SandboxResult:
        callbacks.output("stdout", "1\n")
        callbacks.progress(50, "half")
        callbacks.tick()
        return OK

    sandbox.behave = behave
    task_id = queued(payload={"code": "print(1)", "args": ["x"], "limits": {"wall_s": 5}})
    run([task_id])
    assert (status(task_id), row(task_id).result) == ("succeeded", OK.as_json())
    assert scalar("SELECT container_id FROM attempts") == f"box-{task_id}-1"
    (spec,) = sandbox.specs
    assert (spec.args, spec.limits.wall_s) == (("x",), 5)
    told = kinds(task_id)
    assert told[:3] == ["accepted", "queued", "running"]
    assert sorted(told[3:5]) == ["log", "progress"]
    assert told[5:] == ["succeeded"]


@pytest.mark.parametrize(
    ("verdict", "most", "becomes", "failures", "infra"),
    [
        (Verdict.NONZERO_EXIT, 1, "failed", 1, 0), (Verdict.NONZERO_EXIT, 2, "pending", 1, 0),
        (Verdict.OOM, 1, "failed", 1, 0), (Verdict.TIMEOUT, 2, "pending", 1, 0),
        (Verdict.REJECTED, 5, "failed", 1, 0), (Verdict.INFRA_ERROR, 1, "pending", 0, 1),
    ],
)  # fmt: skip
def test_a_verdict_becomes_the_state_of_the_task(
    worker: Node, sandbox: FakeSandbox, verdict: Verdict, most: int, becomes: str, failures: int, infra: int
) -> None:
    sandbox.behave = lambda *_: SandboxResult(verdict=verdict, stderr="e", sandbox="fake")
    task_id = queued(max_attempts=most)
    run([task_id])
    task = row(task_id)
    assert (task.status, task.failures, task.infra_failures) == (becomes, failures, infra)
    if becomes == "failed":
        assert task.result["verdict"] == verdict


def test_a_sandbox_that_raises_is_our_fault_and_not_the_program_s(worker: Node, sandbox: FakeSandbox) -> None:
    def behave(*_: Any) -> SandboxResult:
        raise RuntimeError("the engine is gone")

    sandbox.behave = behave
    task_id = queued()
    run([task_id])
    assert (status(task_id), row(task_id).infra_failures) == ("pending", 1)
    assert row(task_id).error == "RuntimeError: the engine is gone"


def test_an_envelope_that_comes_again_runs_nothing(worker: Node, sandbox: FakeSandbox) -> None:
    task_id = queued()
    run([task_id])
    run([task_id])
    run(["none"])
    run([])
    assert len(sandbox.specs) == 1


def test_a_worker_that_postgres_does_not_hear_leaves_envelopes_to_others(
    worker: Node, clawq: pytest.MonkeyPatch
) -> None:
    task_id = queued()
    clawq.setattr(type(worker.heart), "healthy", False)
    with pytest.raises(Reject) as refusal:
        run([task_id])
    assert refusal.value.requeue
    assert status(task_id) == "queued"


def test_a_cancelled_program_is_killed_and_then_the_task_is_cancelled(worker: Node, sandbox: FakeSandbox) -> None:
    sandbox.behave = sandbox.until_stopped
    task_id = queued()
    job = in_background(task_id)
    with transaction() as db:
        assert cancel(db, task_id) == "running"
    finished(job)
    assert kinds(task_id)[-2:] == ["cancel_requested", "cancelled"]


def test_a_program_past_its_deadline_is_killed_and_fails_for_good(worker: Node, sandbox: FakeSandbox) -> None:
    sandbox.behave = sandbox.until_stopped
    task_id = queued(max_attempts=5)
    job = in_background(task_id)
    sql("UPDATE tasks SET deadline = now()")
    finished(job)
    assert (status(task_id), row(task_id).error) == ("failed", "The deadline passed while it ran.")


def test_a_drain_hands_the_task_back_without_a_failure(worker: Node, sandbox: FakeSandbox) -> None:
    sandbox.behave = sandbox.until_stopped
    task_id = queued()
    job = in_background(task_id)
    worker.heart.drain()
    finished(job)
    task = row(task_id)
    assert (task.status, task.failures, task.infra_failures) == ("pending", 0, 0)
    assert events(task_id)[-1].data["reason"] == "handed_back"


def test_a_program_whose_task_was_taken_back_is_killed_and_its_result_discarded(
    worker: Node, sandbox: FakeSandbox
) -> None:
    sandbox.behave = sandbox.until_stopped
    task_id = queued()
    job = in_background(task_id)
    lapse(task_id)
    with transaction() as db:
        recover.take_back(db)
    finished(job)
    assert kinds(task_id)[-1] == "lease_expired"
    assert (status(task_id), row(task_id).infra_failures) == ("pending", 1)


def test_an_old_run_is_killed_though_this_worker_has_the_task_again(worker: Node, sandbox: FakeSandbox) -> None:
    sandbox.behave = sandbox.until_stopped
    task_id = queued()
    old = in_background(task_id)
    lapse(task_id)
    with transaction() as db:
        recover.take_back(db)
        db.execute(text("UPDATE tasks SET available_at = now()"))
    let_in()
    new = in_background(task_id)
    eventually(lambda: row(task_id).attempt == 2)
    finished(old)
    assert new.is_alive()
    assert status(task_id) == "running"
    with transaction() as db:
        cancel(db, task_id)
    finished(new)
    assert status(task_id) == "cancelled"


def test_a_container_is_not_started_for_an_attempt_that_is_lost(worker: Node, sandbox: FakeSandbox) -> None:
    task_id = queued()
    sandbox.behave = sandbox.until_stopped
    clock = sandbox.run

    def run_late(spec: SandboxSpec, *, stop: Stop, callbacks: Callbacks) -> SandboxResult:
        sql("UPDATE tasks SET attempt = attempt + 1")
        return clock(spec, stop=stop, callbacks=callbacks)

    sandbox.run = run_late  # type: ignore[method-assign]
    run([task_id])
    assert scalar("SELECT container_id FROM attempts") is None
    assert kinds(task_id)[-1] == "running"


def test_a_lease_that_could_not_be_renewed_is_no_cancel(
    worker: Node, sandbox: FakeSandbox, clawq: pytest.MonkeyPatch
) -> None:
    sandbox.behave = sandbox.until_stopped
    task_id = queued()
    job = in_background(task_id)

    def gone(*_: Any) -> None:
        raise OperationalError("SELECT", {}, Exception("connection refused"))

    with pytest.MonkeyPatch.context() as outage:
        outage.setattr("workers.heart.statements", gone)
        outage.setattr(worker.heart, "_register", gone)
        finished(job)
    assert (status(task_id), row(task_id).infra_failures) == ("pending", 1)
    assert row(task_id).error == "The worker could not renew its lease."
