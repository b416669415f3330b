"""The autoscaler over our pool, and how much a scaled worker prefetches."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from app.pool import ThreadPool
from tests.support import eventually
from workers.scaling import Autoscaler, Consumer


@pytest.fixture
def scaler() -> Iterator[Autoscaler]:
    """As with `--autoscale=8`, grown to five slots a while ago."""
    pool = ThreadPool(0)
    pool.on_start()
    made = Autoscaler(pool, 8, 0, keepalive=0.000001)
    made.scale_up(4)
    yield made
    pool.on_stop()


def test_a_pool_that_may_have_no_slots_has_one() -> None:
    assert ThreadPool(0).limit == 1


def test_an_idle_worker_shrinks_to_one_slot_where_the_least_is_none(scaler: Autoscaler) -> None:
    assert scaler.processes == 5
    scaler.maybe_scale()
    assert scaler.processes == 1
    scaler.maybe_scale()
    assert scaler.processes == 1
    eventually(lambda: scaler.pool._get_info()["threads"] == 1)


@pytest.mark.parametrize(("scaled_to", "prefetched"), [(None, 2), (8, 8)])
def test_a_consumer_prefetches_for_the_slots_that_its_worker_may_have(scaled_to: int | None, prefetched: int) -> None:
    scaler = scaled_to and SimpleNamespace(max_concurrency=scaled_to)
    consumer = Consumer.__new__(Consumer)
    consumer.controller = SimpleNamespace(autoscaler=scaler)
    consumer.pool = SimpleNamespace(num_processes=2)
    consumer.prefetch_multiplier = 1
    assert consumer.max_prefetch_count == prefetched
