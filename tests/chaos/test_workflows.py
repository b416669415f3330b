"""Workflows whose processes are killed again and again: they end as if nothing had happened, and every start shows."""

from __future__ import annotations

import os
import random
import secrets
from collections.abc import Sequence
from typing import Any

import psycopg2
import pytest

from app.queues import STEP
from benchmarks.graphs import EPIGENOMICS, SEISMOLOGY, Graph, chain, document, recorded
from tests.acceptance.flows import assert_in_order
from tests.chaos.rig import ENGINES, EXECUTION, Rig
from tests.chaos.tasks import Tasks
from tests.support import eventually

#: Read at import: fixtures hide the machine's settings from what they start.
SEED = int(os.environ.get("CLAWQ_CHAOS_SEED") or secrets.randbelow(2**32))
#: Whichever execution worker runs something at that moment. A task fails once it has lost three workers, so the smaller
#: graph, where few run at a time, has two of these.
BUSY = "busy"
FEW = ("api", "clock", "coordinator", "coordinator", "gateway", "gateway", *ENGINES, BUSY, BUSY)
MANY = (*FEW, "coordinator", BUSY, BUSY)


def work(graph: Graph, dice: random.Random, longest_s: float) -> dict[str, Any]:
    """Tasks that take their time; each counts the ways that lead to it, from what its parents have counted."""
    seconds = {key: round(dice.uniform(longest_s / 2, longest_s), 3) for key in graph}

    def payload(key: str) -> dict[str, Any]:
        return {"s": seconds[key], "add": [{"$ref": f"tasks.{parent}.result.sum"} for parent in graph[key]]}

    return document(graph, "sleep", payload)


def results(tasks: Tasks, workflow_id: str) -> dict[str, Any]:
    """The result of each of its tasks, by key."""
    return dict(tasks.inside.sql("SELECT key, result FROM tasks WHERE workflow_id = %(id)s", id=workflow_id))


def await_ended(tasks: Tasks, workflow_id: str, count: int) -> None:
    """Wait until so many of its tasks have ended."""
    query = "SELECT count(*) AS n FROM tasks WHERE workflow_id = %(id)s AND completed_at IS NOT NULL"

    def ended() -> bool:
        try:
            tasks.hurry()
            return bool(tasks.inside.sql(query, id=workflow_id)[0].n >= count)
        except psycopg2.OperationalError:
            return False

    eventually(ended, timeout=60)


def kill(rig: Rig, victim: str) -> None:
    """SIGKILL, and a start."""
    if victim in ENGINES:
        rig.kill(victim, restart=False)
        rig.start_engine(victim)
    else:
        rig.kill(busy(rig) if victim == BUSY else victim)


def busy(rig: Rig) -> str:
    """Wait until something runs, and name the process that runs the most."""
    query = "SELECT lease_owner FROM tasks WHERE lease_owner IS NOT NULL GROUP BY 1 ORDER BY count(*) DESC LIMIT 1"
    (row,) = eventually(lambda: rig.inside.sql(query))
    return str(row.lease_owner.partition("@")[0])


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("name", "victims", "longest_s"), [(EPIGENOMICS, FEW, 0.4), (SEISMOLOGY, MANY, 0.15)], ids=["41", "1001"]
)
def test_a_workflow_ends_as_if_nobody_had_been_killed(
    rig: Rig, tasks: Tasks, name: str, victims: Sequence[str], longest_s: float
) -> None:
    print(f"CLAWQ_CHAOS_SEED={SEED}")
    dice = random.Random(SEED)
    graph = recorded(name)
    body = work(graph, dice, longest_s)
    calm = tasks.flow(body)
    tasks.settle()
    order = dice.sample(victims, len(victims))
    stormy = tasks.flow(body)
    for number, victim in enumerate(order, start=1):
        await_ended(tasks, stormy, number * len(graph) // (len(order) + 1))
        print(f"kill {victim}")
        kill(rig, victim)
    assert tasks.settle() == {"succeeded": 2 * len(graph)}
    assert results(tasks, stormy) == results(tasks, calm)
    assert_in_order(tasks.inside.sql, stormy, graph)
    starts = "SELECT count(*) AS n FROM attempts JOIN tasks t ON t.id = task_id WHERE workflow_id = %(id)s"
    assert tasks.inside.sql(starts, id=calm)[0].n == len(graph)
    # That each start is an attempt with a number of its own is among the promises.
    assert tasks.inside.sql(starts, id=stormy)[0].n > len(graph), "nothing was hit"


def test_a_chain_whose_worker_dies_before_it_passes_it_on_is_carried_on_by_the_coordinator(
    rig: Rig, tasks: Tasks
) -> None:
    links = [rig.link(worker, "redis") for worker in EXECUTION]
    for link in links:
        link.trap(f'"task": "{STEP}"'.encode(), deliver=False)
    workflow_id = tasks.flow(document(chain(5)))
    eventually(lambda: any(link.sprung for link in links))
    rig.kill(*EXECUTION)
    assert tasks.settle() == {"succeeded": 5}
    assert_in_order(tasks.inside.sql, workflow_id, chain(5))
    assert {row.attempt for row in tasks.rows()} == {1}


def test_a_coordinator_killed_with_the_bell_in_its_hand_is_rung_for_again(rig: Rig, tasks: Tasks) -> None:
    link = rig.link("coordinator", "postgres")
    link.trap(b"FROM workflows WHERE id = ", b"COMMIT", deliver=False)
    tasks.flow(document(chain(5)))
    link.await_sprung()
    rig.kill("coordinator")
    link.cut()
    assert tasks.statuses() == {"pending": 5}
    assert tasks.settle() == {"succeeded": 5}
