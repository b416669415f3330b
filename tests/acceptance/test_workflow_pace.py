"""No task waits for one that its graph does not have it wait for.

Tasks are held while a file is there. Whatever is not below them has to end meanwhile, in whichever chains and chords it
travels; no clock is needed to see that.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from benchmarks import sleeping
from benchmarks.graphs import Graph, below, chain, diamond, document, fork_join, layered, n_shape, scattered
from tests.acceptance.conftest import Stack, up
from tests.acceptance.flows import assert_in_order, sql, states, submit, wait
from tests.support import HTTP, eventually

SLOTS = 8
#: Fewer than there are slots, or those that are held would keep the others from theirs.
MOST_HELD = 3


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack that knows `sleep`."""
    here = tmp_path_factory.mktemp("pace")
    procfile = sleeping.procfile(here / "Procfile", slots=SLOTS)
    with up(here / "home", "--procfile", str(procfile), **sleeping.ENVIRONMENT) as stack:
        yield stack


def some(graph: Graph, seed: int) -> tuple[str, ...]:
    """Tasks to hold: at random, none below another."""
    dice = random.Random(seed)
    held: list[str] = []
    for key in dice.sample(list(graph), len(graph)):
        if len(held) < MOST_HELD and not below(graph, key).intersection(held) and key not in below(graph, *held):
            held.append(key)
    return tuple(held)


RANDOM = {
    **{f"layered-{seed}": layered(40, width=5, seed=seed) for seed in (1, 2, 3)},
    **{f"scattered-{seed}": scattered(40, seed) for seed in (1, 2, 3)},
}


@pytest.mark.parametrize(
    ("graph", "held"),
    [
        pytest.param(n_shape(), ("b",), id="n-shape"),
        pytest.param(diamond(), ("b0-0",), id="diamond"),
        pytest.param(chain(5), ("t3",), id="chain"),
        pytest.param(fork_join(6, length=3), ("b0-0", "b3-1"), id="fork-join"),
        pytest.param(fork_join(60), ("b0-0", "b7-0"), id="wide"),
        *(pytest.param(graph, some(graph, seed), id=name) for seed, (name, graph) in enumerate(RANDOM.items())),
    ],
)
def test_while_some_tasks_take_their_time_all_that_is_not_below_them_ends(
    stack: Stack, tmp_path: Path, graph: Graph, held: tuple[str, ...]
) -> None:
    gates = {key: tmp_path / key for key in held}
    for gate in gates.values():
        gate.touch()

    def payload(key: str) -> dict[str, str]:
        return {"while_there": str(gates[key])} if key in gates else {}

    waiting = below(graph, *held)
    wanted = dict.fromkeys(graph, "succeeded") | dict.fromkeys(waiting, "pending") | dict.fromkeys(held, "running")
    workflow_id = submit(stack, document(graph, "sleep", payload))
    try:
        eventually(lambda: states(stack, workflow_id) == wanted, timeout=30)
    except AssertionError:
        pytest.fail(f"{held} are held, and there is {_unlike(states(stack, workflow_id), wanted)}")
    finally:
        for gate in gates.values():
            gate.unlink()
    assert wait(stack, workflow_id)["status"] == "succeeded"
    assert_in_order(partial(sql, stack), workflow_id, graph)
    assert overdue(stack) == 0, "a chain or chord got stuck, and the clock had to help"


def overdue(stack: Stack) -> float:
    """How many tasks chains and chords have not brought in time."""
    (port,) = (info["health_port"] for name, info in stack.workers().items() if name.startswith("coordinator@"))
    told = HTTP.get(f"http://127.0.0.1:{port}/metrics").text
    (line,) = (line for line in told.splitlines() if line.startswith("canvas_tasks_overdue_total "))
    return float(line.split()[1])


def _unlike(found: dict[str, str], wanted: dict[str, str]) -> dict[str, tuple[str, str]]:
    """What is not as it should be: key → (how it is, how it should be)."""
    return {key: (found[key], wanted[key]) for key in wanted if found[key] != wanted[key]}
