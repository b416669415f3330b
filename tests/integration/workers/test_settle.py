"""How a job's end is written while Postgres is away, slow or cut off."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from app import db as app_db
from app.db import transaction
from app.tasks import recover
from tests.integration.workers.conftest import OK, FakeSandbox, queued
from tests.support import a_task, eventually, post, row, sql, status
from workers import run as run_
from workers.gateway import admit_pending
from workers.node import Node
from workers.run import run
from workers.sandbox.spec import SandboxResult


@pytest.mark.parametrize("says", ["connection refused", "the database system is starting up", "deadlock detected"])
def test_an_end_is_written_once_postgres_takes_it(worker: Node, clawq: pytest.MonkeyPatch, says: str) -> None:
    task_id = queued()
    real, failures = run_.finish, iter([True, True])

    def flaky(*args: Any, **named: Any) -> Any:
        if next(failures, False):
            raise OperationalError("UPDATE", {}, Exception(says))
        return real(*args, **named)

    clawq.setattr(run_, "finish", flaky)
    run([task_id])
    assert status(task_id) == "succeeded"


def test_an_end_that_takes_too_long_keeps_no_neighbour(worker: Node, clawq: pytest.MonkeyPatch) -> None:
    ids = post(*(a_task() for _ in range(3)))
    admit_pending()
    real = run_.finish

    def slow(db: Any, pairs: Any, **named: Any) -> Any:
        if ids[0] in {claim.id for claim, _ in pairs}:
            db.execute(text("SET LOCAL statement_timeout = 1; SELECT pg_sleep(1)"))
        return real(db, pairs, **named)

    clawq.setattr(run_, "finish", slow)
    with pytest.raises(OperationalError, match="statement timeout"):
        run(ids)
    assert [status(i) for i in ids] == ["running", "succeeded", "succeeded"]


def test_a_claim_on_a_broken_connection_is_made_on_another(worker: Node) -> None:
    task_id = queued()
    with app_db.single() as db:
        broken = db.scalar(text("SELECT pg_backend_pid()"))
    sql("SELECT pg_terminate_backend(:pid)", pid=broken)
    run([task_id])
    assert (status(task_id), row(task_id).attempt) == ("succeeded", 1)


def test_an_end_that_cannot_be_written_within_the_lease_is_left_to_the_clock(
    worker: Node, clawq: pytest.MonkeyPatch
) -> None:
    task_id = queued()

    def gone(*_: Any, **__: Any) -> None:
        raise OperationalError("UPDATE", {}, Exception("connection refused"))

    clawq.setattr(run_, "finish", gone)
    worker.heart.close()
    with pytest.raises(OperationalError):
        run([task_id])
    assert status(task_id) == "running"
    eventually(lambda: _taken_back() == 1)
    assert status(task_id) == "pending"


def _taken_back() -> int:
    with transaction() as db:
        return recover.take_back(db)


def test_connections_that_were_cut_do_not_cost_the_result(worker: Node, sandbox: FakeSandbox) -> None:
    def behave(*_: Any) -> SandboxResult:
        app_db.engine().pool.checkedout()
        sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = current_user "
            "AND pid <> pg_backend_pid()")  # fmt: skip
        return OK

    sandbox.behave = behave
    task_id = queued()
    run([task_id])
    assert status(task_id) == "succeeded"
