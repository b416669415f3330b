"""Sandboxes that wait, in a real stack: what their results say, what the worker weighs, and that nothing is left."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest

from app.settings import Settings
from tests.acceptance.conftest import Stack, up
from tests.acceptance.hands import all_run, control, sleepers
from tests.chaos.invariants import Inside
from tests.conftest import missing
from tests.support import HTTP, eventually
from workers.sandbox.choose import probe

pytestmark = pytest.mark.timeout(600)

#: Containers that wait; programs at once.
WARM, SLOTS = 4, 32
TALKER = {"code": "for n in range(200): print('some output', n)"}


@pytest.fixture(scope="module", autouse=True)
def engine() -> None:
    """Programs can run in containers."""
    found = next(found for found in probe(Settings()) if found.name == "docker")
    if not found.usable:
        missing(f"no docker sandbox: {found.sentence}")


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack whose execution worker has many slots."""
    settings = {"CLAWQ_SANDBOX_WARM": json.dumps({"python": WARM}), "CLAWQ_DRAIN_S": "1"}
    with up(tmp_path_factory.mktemp("wide") / "home", **settings) as stack:
        (name,) = [name for name in stack.workers() if name.startswith("execution@")]
        control(stack, name, "pool_grow", str(SLOTS - stack.workers()[name]["slots"]))
        yield stack


@pytest.fixture
def inside(wide: Stack) -> Inside:
    return Inside(wide.home)


def metrics(stack: Stack) -> dict[str, float]:
    """What the execution worker counts, by name and labels."""
    (info,) = [info for name, info in stack.workers().items() if name.startswith("execution@")]
    shown = HTTP.get(f"http://127.0.0.1:{info['health_port']}/metrics").text
    return {name: float(value) for name, value in re.findall(r"^([a-z]\S*) (\S+)$", shown, re.MULTILINE)}


def await_reserve(stack: Stack, count: int = WARM) -> None:
    """Wait until all that should wait do."""
    eventually(lambda: metrics(stack)["sandbox_pool_depth"] == count, timeout=120)


def rss(stack: Stack) -> int:
    """Bytes of resident memory of the execution worker."""
    return int(psutil.Process(stack.pid("execution")).memory_info().rss)


def batch(stack: Stack, payload: dict[str, Any], count: int) -> list[str]:
    """Post programs in one request; returns their ids."""
    items = stack.post("/tasks/batch", {"tasks": [{"task_type": "python", "payload": payload}] * count})["items"]
    return [item["id"] for item in items]


def results(inside: Inside, ids: list[str]) -> list[dict[str, Any]]:
    """The results of tasks, once all have succeeded."""
    query = "SELECT result FROM tasks WHERE id = ANY(%(ids)s) AND status = 'succeeded'"
    rows = eventually(lambda: r if len(r := inside.sql(query, ids=ids)) == len(ids) else None, timeout=300)
    return [row.result for row in rows]


def test_a_warm_run_says_so_and_is_counted(wide: Stack, inside: Inside) -> None:
    await_reserve(wide)
    before = metrics(wide)
    (result,) = results(inside, batch(wide, {"code": "print(1)"}, 1))
    assert (result["sandbox"], result["warm"], result["stdout"]) == ("docker", True, "1\n")
    after = metrics(wide)
    for name in ('sandbox_starts_total{start="warm"}', 'sandbox_start_seconds_count{start="warm"}'):
        assert after[name] == before.get(name, 0) + 1, name
    assert after['sandbox_start_seconds_bucket{le="+Inf",start="warm"}'] == after[name]
    assert after["sandbox_orphans_reaped_total"] == 0


def test_what_the_reserve_does_not_fit_gets_a_container_of_its_own(wide: Stack, inside: Inside) -> None:
    await_reserve(wide)
    (result,) = results(inside, batch(wide, {"code": "print(1)", "limits": {"memory_mb": 100}}, 1))
    assert (result["sandbox"], result["warm"]) == ("docker", False)
    assert metrics(wide)["sandbox_pool_depth"] == WARM


def test_a_burst_larger_than_the_reserve_ends_well(wide: Stack, inside: Inside) -> None:
    await_reserve(wide)
    found = results(inside, batch(wide, {"code": "print(1)"}, 4 * WARM))
    assert {result["warm"] for result in found} == {True, False}
    assert sum(result["warm"] for result in found) >= WARM
    await_reserve(wide)


def test_a_cancelled_task_leaves_no_container(wide: Stack, inside: Inside) -> None:
    await_reserve(wide)
    warm, cold = sleepers(wide, 60), batch(wide, {"argv": ["sleep", "60"], "limits": {"memory_mb": 100}}, 1)
    ids = warm + cold
    query = "SELECT container_id FROM attempts WHERE task_id = ANY(%(ids)s) AND container_id IS NOT NULL"
    used = eventually(lambda: rows if len(rows := inside.sql(query, ids=ids)) == 2 else None)
    for task_id in ids:
        wide.post(f"/tasks/{task_id}/cancel", {})
    for task_id in ids:
        wide.wait(task_id, "cancelled")
    assert not {row.container_id for row in used} & inside.containers().keys()
    for row in inside.sql("SELECT completed_at - cancel_requested_at AS took FROM tasks WHERE id = ANY(%(i)s)", i=ids):
        assert row.took < timedelta(seconds=5)


def test_a_worker_with_many_programs_stays_small(wide: Stack, inside: Inside) -> None:
    ids = batch(wide, {"code": "import time\nprint('here')\ntime.sleep(55)"}, SLOTS)
    here = "SELECT count(DISTINCT task_id) AS n FROM events WHERE kind = 'log' AND task_id = ANY(%(ids)s)"
    eventually(lambda: inside.sql(here, ids=ids)[0].n == SLOTS, timeout=50)
    assert all_run(wide, ids)
    assert rss(wide) <= 512 << 20
    for task_id in ids:
        wide.post(f"/tasks/{task_id}/cancel", {})
    await_reserve(wide)


def test_a_worker_does_not_grow_with_what_it_has_run(wide: Stack, inside: Inside) -> None:
    """`make bench-sandboxes` takes a thousand tasks for it; here it is two hundred, for the time they take."""
    results(inside, batch(wide, TALKER, 80))
    await_reserve(wide)
    before = rss(wide)
    results(inside, batch(wide, TALKER, 120))
    await_reserve(wide)
    assert rss(wide) <= 1.05 * before
    eventually(lambda: len(inside.containers()) == WARM, timeout=30)


@pytest.mark.parametrize("count", [2, 16])
def test_down_leaves_no_container(tmp_path: Path, count: int) -> None:
    settings = {"CLAWQ_SANDBOX_WARM": json.dumps({"python": count}), "CLAWQ_DRAIN_S": "1"}
    with up(tmp_path / "home", **settings) as stack:
        inside = Inside(stack.home)
        sleepers(stack, 60, 2)
        await_reserve(stack, count)
        eventually(lambda: len(inside.containers()) == count + 2)
        assert stack.run("clawq", "down").returncode == 0
        assert not inside.containers()
