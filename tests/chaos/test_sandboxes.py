"""The container engine and the worker beside it: killed, away, without its image. Nothing runs unconfined meanwhile."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from datetime import timedelta
from urllib.parse import urlsplit

import docker
import pytest
from docker.errors import DockerException, ImageNotFound

from app.settings import Settings
from app.tasks.retry import MAX_INFRA_FAILURES
from tests.acceptance.conftest import Stack, up
from tests.chaos.links import Loop, SocketLink
from tests.chaos.tasks import Tasks
from tests.chaos.test_workers import ONE_LOST
from tests.conftest import missing
from tests.support import eventually

pytestmark = pytest.mark.timeout(300)

#: A name of the image that these tests may take away.
IMAGE = f"clawq-test-chaos:{os.getpid()}"
#: No container of the pool has it.
COLD = {"memory_mb": 100}


@pytest.fixture(scope="module")
def engine() -> Iterator[docker.DockerClient]:
    """The engine, past the link, with the image under its second name."""
    try:
        client = docker.from_env()
        client.images.get(Settings().sandbox_image).tag(IMAGE)
    except (DockerException, ImageNotFound) as exc:
        missing(f"no container engine with the image: {exc}")
    with closing(client):
        yield client
        untag(client)


@pytest.fixture(scope="module")
def link(engine: docker.DockerClient, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SocketLink]:
    """The stack's way to the engine."""
    target = urlsplit(os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock"))
    if target.scheme != "unix":
        pytest.skip("the engine is not behind a Unix socket")
    loop = Loop()
    link = SocketLink(loop, target.path, tmp_path_factory.mktemp("engine") / "sock")
    yield link
    link.close()
    loop.close()


@pytest.fixture(scope="module")
def stack(link: SocketLink, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    home = tmp_path_factory.mktemp("sandboxes") / "home"
    settings = {"CLAWQ_LEASE_S": "10", "CLAWQ_DRAIN_S": "1", "CLAWQ_SANDBOX_IMAGE": IMAGE, "CLAWQ_SANDBOX": "docker"}
    with up(home, DOCKER_HOST=f"unix://{link.path}", **settings) as stack:
        yield stack


@pytest.fixture
def tasks(stack: Stack) -> Iterator[Tasks]:
    made = Tasks(stack.api_url, stack.api_key, stack.home)
    made.empty()
    yield made
    made.close()


def untag(engine: docker.DockerClient) -> None:
    with suppress(ImageNotFound):
        engine.images.remove(IMAGE, force=True)


@contextmanager
def without_image(engine: docker.DockerClient) -> Iterator[None]:
    untag(engine)
    try:
        yield
    finally:
        engine.images.get(Settings().sandbox_image).tag(IMAGE)


def await_removals(tasks: Tasks) -> None:
    """Wait until only the reserve is left."""
    reserve = sum(Settings().sandbox_warm.values())
    eventually(lambda: not tasks.inside.orphans() and len(tasks.inside.containers()) == reserve, timeout=90)


def test_a_worker_killed_with_all_its_sandboxes_full_costs_each_task_an_attempt(stack: Stack, tasks: Tasks) -> None:
    (old,) = set(eventually(tasks.inside.containers, timeout=60).values())
    pid = stack.pid("execution")
    assert pid
    ids = tasks.programs(8, 12)
    for task_id in ids:
        tasks.holder(task_id)
    (killed,) = tasks.inside.sql("SELECT now() AS at")
    os.kill(pid, signal.SIGKILL)
    assert tasks.settle(timeout=120) == {"succeeded": 8}
    assert [tasks.kinds(task_id) for task_id in ids] == [ONE_LOST] * 8
    # What is older than the kill is the killed worker's.
    eventually(lambda: old not in tasks.inside.containers().values(), timeout=60)
    (swept,) = tasks.inside.sql("SELECT now() AS at")
    assert swept.at - killed.at < timedelta(seconds=120)


def test_programs_outlive_an_engine_that_is_away_for_a_moment(tasks: Tasks, link: SocketLink) -> None:
    warm, cold = tasks.program(3), tasks.post(task_type="python", payload={"code": "print(1)", "limits": COLD})
    tasks.holder(warm)
    with link.gone():
        eventually(lambda: tasks.row(warm).infra_failures == 1)
    assert tasks.settle() == {"succeeded": 2}
    assert tasks.row(warm).attempt == 2
    assert {tasks.row(task_id).result["sandbox"] for task_id in (warm, cold)} == {"docker"}
    (first, _) = tasks.inside.sql("SELECT error FROM attempts WHERE task_id = %(id)s ORDER BY attempt", id=warm)
    assert first.error.startswith("The container engine failed")
    await_removals(tasks)


def test_tasks_fail_in_words_and_run_nowhere_while_the_engine_is_away(tasks: Tasks, link: SocketLink) -> None:
    with link.gone():
        ids = tasks.programs(6, 0)
        tasks.await_status("failed", *ids)
    for task_id in ids:
        row = tasks.row(task_id)
        assert row.infra_failures == row.attempt == MAX_INFRA_FAILURES
        assert row.result["verdict"] == "infra_error"
        assert row.error.startswith("The container engine failed")
    assert tasks.words() == 0
    again = tasks.program(0)
    assert tasks.settle() == {"failed": 6, "succeeded": 1}
    assert tasks.row(again).attempt == 1
    await_removals(tasks)


def test_a_missing_image_is_named_and_its_return_noticed(tasks: Tasks, engine: docker.DockerClient) -> None:
    payload = {"code": "print(1)", "limits": COLD}
    with without_image(engine):
        task = tasks.post(task_type="python", payload=payload)
        tasks.await_status("failed", task)
    assert f"The image {IMAGE} is not on this engine" in tasks.row(task).error
    assert tasks.row(task).attempt == MAX_INFRA_FAILURES
    tasks.post(task_type="python", payload=payload)
    assert tasks.settle() == {"failed": 1, "succeeded": 1}
