"""Workflows that somebody has run in earnest, on the real stack: from POST to their end, in order and in few bytes."""

from __future__ import annotations

from functools import partial

import pytest

from benchmarks.graphs import EPIGENOMICS, SEISMOLOGY, document, recorded
from tests.acceptance.conftest import Stack
from tests.acceptance.flows import assert_in_order, redis_bytes, sql, submit, wait
from tests.acceptance.hands import client

#: Bytes to and from Redis, for the larger of the two: ids, and no payloads or results.
MOST_BYTES = 5_000_000


@pytest.mark.parametrize(("name", "nodes"), [(EPIGENOMICS, 41), (SEISMOLOGY, 1001)])
def test_a_recorded_workflow_runs_to_its_end_in_the_order_of_its_graph(stack: Stack, name: str, nodes: int) -> None:
    graph = recorded(name)
    assert len(graph) == nodes
    workflow_id = submit(stack, document(graph, payload=lambda key: {"key": key}))
    ended = wait(stack, workflow_id)
    assert (ended["status"], ended["progress"], ended["counts"]["succeeded"]) == ("succeeded", 100, nodes)
    assert_in_order(partial(sql, stack), workflow_id, graph)
    picture = stack.get(f"/workflows/{workflow_id}/graph")
    place = {node["key"]: number for number, node in enumerate(picture["nodes"])}
    assert all(place[parent] < place[child] for parent, child in picture["edges"])
    assert sorted(map(tuple, picture["edges"])) == sorted((p, child) for child, ps in graph.items() for p in ps)
    assert {node["attempt"] for node in picture["nodes"]} == {1}


def test_what_passes_through_redis_for_a_thousand_tasks_is_ids_and_little_else(stack: Stack) -> None:
    with client(stack) as redis:
        before = redis_bytes(redis)
        # Payloads that would show: once to a worker and once back, they would be twice as much as is allowed.
        heavy = document(recorded(SEISMOLOGY), payload=lambda key: {"key": key, "ballast": "x" * 5000})
        workflow_id = submit(stack, heavy)
        assert wait(stack, workflow_id)["status"] == "succeeded"
        assert redis_bytes(redis) - before < MOST_BYTES
