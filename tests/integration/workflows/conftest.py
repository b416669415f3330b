"""A worker in this process for whatever the fleet opens."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from kombu import pools

from app.celery import celery_app, configure
from app.queues import Queue
from app.tasks.types import TASK_TYPES, TaskType
from tests.integration.workers.conftest import NoServer
from tests.integration.workflows.fate import Fate, meet, met
from tests.support import employ
from workers import handlers
from workers import node as node_
from workers.node import Node


@pytest.fixture(autouse=True)
def fate(clawq: pytest.MonkeyPatch) -> None:
    """A task type that ends as its payload says."""
    met.clear()
    clawq.setitem(TASK_TYPES, "fate", TaskType("fate", Fate, Queue.EXECUTION, inline=True, share=10))
    clawq.setitem(handlers.HANDLERS, "fate", meet)


@pytest.fixture(autouse=True)
def worker(clawq: pytest.MonkeyPatch) -> Iterator[Node]:
    """An execution worker, registered; its heart does not beat."""
    clawq.setattr(node_, "HealthServer", NoServer)
    employ()
    _meet_anew()
    celery_app.loader.import_default_modules()
    this = node_.become("execution@test", ["execution"], lambda: 2)
    this.heart.last_beat = float("inf")
    yield this
    node_._current.clear()
    celery_app.backend.client.close()
    pools.reset()


def _meet_anew() -> None:
    """Celery reads its settings once a process; here they are this test's."""
    pools.reset()
    celery_app._after_fork()
    celery_app._backend_cache = None
    celery_app._local = threading.local()
    configure()
