"""Reaping: what dead workers left goes, whatever else is there stays."""

from __future__ import annotations

from app.db import transaction
from app.tasks.report import record_container
from tests.integration.workers.conftest import FakeSandbox
from tests.support import eventually, running, sql
from workers.node import Node
from workers.reaping import Reaping, _orphans


def test_only_what_no_live_worker_and_no_open_attempt_owns_is_removed(worker: Node) -> None:
    sql(
        """
        INSERT INTO workers (name, agent_id, role, info, heartbeat_at) VALUES
            ('a@other', 'execution_agent', 'execution', '{"instance": "lives"}', now()),
            ('b@other', 'execution_agent', 'execution', '{"instance": "died"}', now() - interval '4 seconds')
        """
    )
    claim = running()
    with transaction() as db:
        assert record_container(db, claim.id, claim.attempt, "in use")
    is_orphan = _orphans()
    assert not is_orphan(worker.instance, "mine")
    assert not is_orphan("lives", "another's")
    assert is_orphan("died", "left behind")
    assert is_orphan("unknown", "left behind")
    assert not is_orphan("died", "in use")


def test_a_worker_reaps_as_it_starts(sandbox: FakeSandbox, worker: Node) -> None:
    sandbox.left = [("gone", "c-1"), (worker.instance, "c-2")]
    reaping = Reaping(sandbox)
    eventually(lambda: sandbox.reaped)
    reaping.close()
    assert sandbox.reaped == ["c-1"]


def test_a_worker_opens_its_sandbox_when_it_is_registered_and_closes_it(sandbox: FakeSandbox, worker: Node) -> None:
    assert sandbox.is_open
    worker.close()
    assert not sandbox.is_open
