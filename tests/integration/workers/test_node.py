"""The node: one role, one name, honest probes."""

from __future__ import annotations

import pytest

from app import publisher
from app.errors import SettingsError
from app.settings import settings
from tests.support import (
    eventually,
    scalar,
    sql,
)  # fmt: skip
from workers import node as node_
from workers.node import Node


def test_a_worker_registers_beats_and_leaves(worker: Node) -> None:
    ((name, agent_id, info),) = sql("SELECT name, agent_id, info FROM workers")
    assert (name, agent_id) == ("execution@test", "execution_agent")
    assert (info["slots"], info["sandbox"], info["health_port"]) == (2, "fake", worker.server.port)
    first = scalar("SELECT heartbeat_at FROM workers")
    eventually(lambda: scalar("SELECT heartbeat_at FROM workers") > first)
    worker.leave()
    assert scalar("SELECT count(*) FROM workers") == 0
    assert scalar("SELECT status FROM agents") == "inactive"


@pytest.mark.parametrize(("queues", "agent_type"), [(["execution", "memory"], None), ([], None)])
def test_a_worker_without_one_role_does_not_start(clawq: pytest.MonkeyPatch, queues: list[str], agent_type) -> None:
    with pytest.raises(SettingsError, match="one role"):
        node_.become("w", queues, lambda: 1)


def test_an_agent_of_a_name_of_its_own_may_have_instances(clawq: pytest.MonkeyPatch) -> None:
    clawq.setenv("AGENT_TYPE", "memory")
    clawq.setenv("AGENT_ID", "elephant")
    clawq.setenv("CLAWQ_HEALTH_PORT", "0")
    settings.cache_clear()
    this = node_.become("w", ["memory"], lambda: 1)
    assert (this.role, this.agent_id) == ("memory", "elephant")
    this.server.close()
    node_._current.clear()


def test_a_role_and_a_queue_that_differ_are_refused(clawq: pytest.MonkeyPatch) -> None:
    clawq.setenv("AGENT_TYPE", "memory")
    settings.cache_clear()
    with pytest.raises(SettingsError, match="AGENT_TYPE is memory, but -Q names execution"):
        node_.become("w", ["execution"], lambda: 1)


def test_a_worker_is_not_ready_while_redis_does_not_answer(worker: Node, clawq: pytest.MonkeyPatch) -> None:
    worker.pulse.connected = True
    worker.beat(subscribed=True)
    assert worker._ready()[0]
    clawq.setattr(publisher, "answers", lambda: False)
    assert not worker._ready()[0]
    assert worker._health()[0]


def test_what_a_worker_is_told_by_command_is_registered(worker: Node) -> None:
    def told() -> tuple[int, bool]:
        (info,) = sql("SELECT info FROM workers")
        return info.info["slots"], info.info["consuming"]

    assert told() == (2, False)
    worker.pulse.connected = True
    worker.beat(subscribed=True)
    eventually(lambda: told() == (2, True))
    worker.slots = lambda: 6
    worker.beat(subscribed=False)
    eventually(lambda: told() == (6, False))
    assert not worker._ready()[0]
    assert worker._health()[0]


def test_outside_a_worker_there_is_no_node(clawq: pytest.MonkeyPatch) -> None:
    with pytest.raises(SettingsError, match="not a worker"):
        node_.current()
