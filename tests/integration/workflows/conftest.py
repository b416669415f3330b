"""A worker in this process for whatever the fleet opens."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from kombu import pools

from app.celery import celery_app
from tests.support import employ
from workers import node as node_
from workers.node import Node


class NoServer:
    """Probes are not asked for here."""

    port = 0

    def __init__(self, **_: object) -> None: ...

    def close(self) -> None: ...


@pytest.fixture(autouse=True)
def worker(clawq: pytest.MonkeyPatch) -> Iterator[Node]:
    """An execution worker, registered; its heart does not beat."""
    clawq.setattr(node_, "HealthServer", NoServer)
    employ()
    celery_app.loader.import_default_modules()
    yield node_.become("execution@test", ["execution"], lambda: 2)
    node_._current.clear()
    pools.reset()
    celery_app._after_fork()
    celery_app.backend.client.close()
