"""Every queue is served everywhere it has to be, and Celery is set up as reliability needs it."""

from __future__ import annotations

import inspect
import shlex
from typing import get_args

import pytest

from app import agents, settings
from app.celery import celery_app
from app.local import procfile
from app.queues import ADMIT, DELIVER, RUN, Queue
from app.tasks.types import TASK_TYPES
from app.transport import Transport
from tests.architecture.sources import ROOT
from workers import node

#: Why each is so is told in app/celery.py.
SETTINGS = {
    "task_acks_late": True,
    "worker_prefetch_multiplier": 1,
    "task_reject_on_worker_lost": False,
    "worker_cancel_long_running_tasks_on_connection_loss": False,
    "task_ignore_result": True,
    "accept_content": ["json"],
    "task_serializer": "json",
    "task_create_missing_queues": False,
    "broker_connection_max_retries": None,
    "broker_connection_retry_on_startup": True,
    "worker_pool": "app.pool:ThreadPool",
    "beat_scheduler": "workers.clock:Clock",
}


@pytest.fixture
def celery(environment: pytest.MonkeyPatch):
    """The Celery application, set up for a Redis that is never asked."""
    environment.setenv("REDIS_URL", "redis://127.0.0.1:1/0")
    settings.settings.cache_clear()
    celery_app.loader.import_default_modules()
    return celery_app


def worker_lines() -> dict[str, list[str]]:
    """Name → the command's words, for the workers of the Procfile."""
    lines = procfile.read(ROOT / "Procfile")
    words = {line.name: shlex.split(line.command) for line in lines}
    return {name: command for name, command in words.items() if "worker" in command}


@pytest.mark.parametrize("queue", list(Queue))
def test_a_queue_has_a_line_in_the_procfile(queue: Queue) -> None:
    command = worker_lines()[queue]
    assert command[command.index("-Q") + 1] == queue
    assert command[command.index("-n") + 1] == f"{queue}@%h"


def test_no_worker_serves_a_queue_that_does_not_exist() -> None:
    assert set(worker_lines()) == set(Queue)


def test_the_procfile_has_an_api_and_a_clock() -> None:
    names = {line.name for line in procfile.read(ROOT / "Procfile")}
    assert {"api", "clock"} <= names


def test_the_four_names_are_in_step(celery) -> None:
    names = {str(queue) for queue in Queue}
    assert names == {"gateway", "coordinator", "execution", "memory"}
    assert {queue.name for queue in celery.conf.task_queues} == names
    assert set(get_args(settings.Role)) == names
    assert set(node._PORTS) == names
    assert set(agents._GOALS) == names
    assert {kind.queue for kind in TASK_TYPES.values()} <= names
    assert {role for kind in TASK_TYPES.values() for role in kind.roles} <= names


def test_envelopes_go_to_queues_that_exist(celery) -> None:
    assert celery.conf.task_routes[ADMIT]["queue"] == Queue.GATEWAY
    assert celery.conf.task_routes[DELIVER]["queue"] == Queue.GATEWAY
    assert celery.conf.task_default_queue in set(Queue)
    assert celery.conf.task_queue_max_priority is None, "priority is decided in Postgres"


@pytest.mark.parametrize("name", SETTINGS)
def test_celery_is_set_as_reliability_needs_it(celery, name: str) -> None:
    assert celery.conf[name] == SETTINGS[name]


@pytest.mark.parametrize(("scheme", "tls"), [("redis", False), ("rediss", True)])
def test_envelopes_go_through_our_transport(celery, scheme: str, tls: bool) -> None:
    connection = celery.connection_for_read(url=f"{scheme}://127.0.0.1:1/0")
    assert connection.get_transport_cls() is Transport
    assert bool(connection.ssl) == tls


def test_the_broker_cannot_hang_a_worker_nor_give_work_out_again_too_soon(celery) -> None:
    options = celery.conf.broker_transport_options
    assert options["socket_timeout"] <= 10
    assert options["socket_connect_timeout"] <= 5
    assert options["visibility_timeout"] > 3600 + 60, "longer than the longest program"


def test_celery_jobs_take_ids_alone(celery) -> None:
    jobs = {name: job for name, job in celery.tasks.items() if not name.startswith("celery.")}
    assert {ADMIT, DELIVER, RUN} <= set(jobs)
    for name, job in jobs.items():
        for parameter in inspect.signature(job.run).parameters.values():
            assert parameter.name in ("id", "ids") or parameter.name.endswith(("_id", "_ids")), name
            assert parameter.annotation in ("str", "list[str]"), f"{name}({parameter})"


def test_no_job_is_retried_or_timed_by_celery(celery) -> None:
    for name, job in celery.tasks.items():
        if not name.startswith("celery."):
            assert not getattr(job, "autoretry_for", ()), name
            assert (job.time_limit, job.soft_time_limit) == (None, None), name
    assert celery.conf.beat_schedule == {}
