"""Agents of the four roles live by their workers' heartbeats; the user's own by their owner's word."""

from __future__ import annotations

import pytest

from app import agents
from app.db import transaction
from app.errors import Conflict, NotFound
from schema.agents import Agent
from tests.support import a_task, employ, let_in, post, post_one, put, scalar, sql, take, together

pytestmark = pytest.mark.usefixtures("clawq")


def state(agent_id: str) -> str:
    return scalar("SELECT status FROM agents WHERE id = :id", id=agent_id)


def swept() -> list[str]:
    with transaction() as db:
        return agents.sweep(db)


def silence(worker: str) -> None:
    sql("UPDATE workers SET heartbeat_at = now() - interval '1 hour' WHERE name = :name", name=worker)


def create(**values: str) -> str:
    with transaction() as db:
        return agents.create(db, **{"name": "n", "role": "r", "goal": "g", "agent_type": "critic", **values}).id


def test_a_worker_s_first_heartbeat_makes_its_agent_and_later_ones_keep_it() -> None:
    for slots in (1, 2):
        with transaction() as db:
            agents.heartbeat(db, worker="w@h", agent_id="a", role="memory", info={"slots": slots})
    assert state("a") == "active"
    with transaction() as db:
        (worker,) = agents.workers(db)
    assert (worker.name, worker.agent_id, worker.role, worker.info) == ("w@h", "a", "memory", {"slots": 2})
    assert worker.heartbeat_at >= worker.started_at


def test_an_agent_is_active_as_long_as_one_of_its_workers_is() -> None:
    with transaction() as db:
        for name in ("w1", "w2"):
            agents.heartbeat(db, worker=name, agent_id="a", role="execution", info={})
    silence("w1")
    assert swept() == []
    assert state("a") == "active"
    silence("w2")
    assert swept() == ["a"]
    assert (state("a"), scalar("SELECT count(*) FROM workers")) == ("inactive", 0)
    assert swept() == []
    with transaction() as db:
        agents.heartbeat(db, worker="w1", agent_id="a", role="execution", info={})
    assert state("a") == "active"


def test_a_worker_that_leaves_takes_its_agent_with_it_only_if_it_was_the_last() -> None:
    with transaction() as db:
        for name in ("w1", "w2"):
            agents.heartbeat(db, worker=name, agent_id="a", role="execution", info={"pid": 7})
    for name, expected in (("w1", "active"), ("w2", "inactive")):
        with transaction() as db:
            agents.leave(db, name, 7)
        assert state("a") == expected


def test_a_worker_that_leaves_does_not_take_its_successor_along() -> None:
    with transaction() as db:
        agents.heartbeat(db, worker="w", agent_id="a", role="execution", info={"pid": 7})
    began = scalar("SELECT started_at FROM workers")
    with transaction() as db:
        agents.heartbeat(db, worker="w", agent_id="a", role="execution", info={"pid": 8})
        agents.leave(db, "w", 7)
    assert state("a") == "active"
    assert scalar("SELECT started_at FROM workers") > began


def test_a_user_s_agent_needs_no_worker() -> None:
    mine = create()
    assert swept() == []
    assert state(mine) == "active"


def test_only_a_user_s_agent_is_switched_by_hand() -> None:
    mine, theirs = create(), employ()
    with transaction() as db:
        assert agents.update(db, mine, status="inactive").status == "inactive"
        with pytest.raises(Conflict):
            agents.update(db, theirs, status="inactive")
        assert agents.update(db, theirs, goal="new", configuration={"max_running": 1}).goal == "new"
    assert state(theirs) == "active"


def test_an_update_moves_only_what_is_named() -> None:
    mine = create(backstory="b")
    before = scalar("SELECT updated_at FROM agents WHERE id = :id", id=mine)
    with transaction() as db:
        changed = agents.update(db, mine, goal="other")
        assert (changed.goal, changed.backstory, changed.name) == ("other", "b", "n")
        assert changed.updated_at > before


def test_an_agent_that_is_referred_to_cannot_be_deleted() -> None:
    mine, worked, free = create(), employ(), create()
    post_one(assigned_to=mine)
    for agent_id in (mine, worked):
        with transaction() as db, pytest.raises(Conflict):
            agents.delete(db, agent_id)
    with transaction() as db:
        agents.delete(db, free)
    for action in (agents.get, agents.delete, agents.update):
        with transaction() as db, pytest.raises(NotFound):
            action(db, free)


def test_agents_are_found_by_type_and_state_page_by_page() -> None:
    ids = [create() for _ in range(5)]
    other = create(agent_type="poet")
    with transaction() as db:
        agents.update(db, ids[0], status="inactive")
        seen: list[Agent] = []
        cursor = None
        while True:
            page, cursor = agents.find(db, agent_type="critic", status=None, cursor=cursor, limit=2)
            seen += page
            if not cursor:
                break
        assert [agent.id for agent in seen] == ids[::-1]
        assert [a.id for a in agents.find(db, agent_type=None, status="inactive", cursor=None, limit=9)[0]] == ids[:1]
        assert len(agents.find(db, agent_type=None, status=None, cursor=None, limit=9)[0]) == 6
    assert other not in ids


def test_the_four_queues_are_counted_even_when_empty() -> None:
    employ()
    put("succeeded")
    first, _, _ = post(*[a_task()] * 3)
    let_in()
    take(first)
    post_one(delay_s=60)
    with transaction() as db:
        shown = {row["queue"]: row for row in agents.queues(db)}
    assert set(shown) == {"gateway", "coordinator", "execution", "memory"}
    execution = shown["execution"]
    assert (execution["pending"], execution["queued"], execution["running"], execution["workers"]) == (1, 2, 1, 1)
    assert execution["oldest_queued_s"] >= 0
    assert shown["gateway"] == {
        "queue": "gateway", "pending": 0, "queued": 0, "running": 0, "oldest_queued_s": None, "workers": 0,
    }  # fmt: skip


def test_heartbeats_and_sweeps_at_once_agree() -> None:
    def beat(name: str) -> None:
        with transaction() as db:
            agents.heartbeat(db, worker=name, agent_id="a", role="execution", info={})

    for _ in range(10):
        results = together(*(lambda n=n: beat(f"w{n}") for n in range(4)), swept, swept)
        assert not [r for r in results if isinstance(r, Exception)]
    beat("w0")
    assert state("a") == "active"
