"""Flower as people start it by hand, from anywhere: closed to strangers, and read-only to all."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from base64 import b64encode
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from celery import Celery
from flower.urls import handlers

from app.local import ports, services
from tests.conftest import _ENV
from tests.support import HTTP, eventually

ROOT = Path(__file__).resolve().parents[3]
#: With what separates passwords, and users from them, for Flower.
PASSWORD = "correct,horse:battery"
COMMAND = (str(Path(sys.executable).with_name("celery")), "-A", "app", "flower")

#: What is shown, and to nobody else.
PAGES = (
    "/", "/workers", "/worker/x", "/tasks", "/tasks/datatable", "/task/x", "/broker", "/metrics", "/api/workers",
    "/api/tasks", "/api/task/types", "/api/task/info/x", "/api/task/result/x", "/api/queues/length",
)  # fmt: skip


def _routes() -> list[tuple[str, Any]]:
    return [
        (rule[0], rule[1]) if isinstance(rule, tuple) else (rule.regex.pattern, rule.handler_class) for rule in handlers
    ]


def _example(pattern: str) -> str:
    """A path that the pattern fits."""
    return "/" + re.sub(r"\(.*\)|\.\*", "x", pattern.removesuffix("$").removesuffix("/?")).removeprefix("/")


@dataclass(frozen=True)
class Flower:
    """A running Flower, seen from outside."""

    port: int
    process: subprocess.Popen[bytes]
    log: Path

    def ask(self, path: str, user: str | None = f"clawq:{PASSWORD}", method: str = "GET") -> httpx.Response:
        """Ask as somebody, or as nobody."""
        headers = {} if user is None else {"Authorization": f"Basic {b64encode(user.encode()).decode()}"}
        return HTTP.request(method, f"http://{ports.LOOPBACK}:{self.port}{path}", headers=headers, timeout=20)

    def is_up(self) -> bool:
        """Whether it answers."""
        assert self.process.poll() is None, self.log.read_text()
        try:
            return self.ask("/healthcheck", None).text == "OK"
        except httpx.HTTPError:
            return False


def environ(home: Path, **more: str) -> dict[str, str]:
    """An environment without the machine's settings, in which clawq's packages are found from anywhere."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith((*_ENV, "FLOWER_"))}
    return {**kept, "PYTHONPATH": str(ROOT), "CLAWQ_HOME": str(home), **more}


@contextmanager
def started(place: Path, redis_url: str) -> Iterator[Flower]:
    """Flower with nothing on its command line."""
    port, log = ports.pick(), place / "flower.log"
    env = environ(place, REDIS_URL=redis_url, CLAWQ_FLOWER_PORT=str(port), CLAWQ_FLOWER_PASSWORD=PASSWORD)
    with log.open("wb") as output:
        process = subprocess.Popen(COMMAND, cwd=place, env=env, stdout=output, stderr=output)
    try:
        flower = Flower(port, process, log)
        eventually(flower.is_up, timeout=60)
        yield flower
    finally:
        process.terminate()
        process.wait(30)


@pytest.fixture(scope="module")
def flower(redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flower]:
    """One for all that look and change nothing."""
    with started(tmp_path_factory.mktemp("flower"), redis_url) as made:
        yield made


@pytest.mark.parametrize("path", PAGES)
def test_strangers_see_nothing(flower: Flower, path: str) -> None:
    for stranger in (None, "clawq", "clawq:", f"admin:{PASSWORD}", "clawq:wrong", "clawq:pässword", "clawq:correct"):
        assert flower.ask(path, stranger).status_code == 401, stranger


def test_every_page_is_among_those(flower: Flower) -> None:
    """Or a newer Flower could show one that nobody has looked at."""
    shown = {_example(pattern) for pattern, handler in _routes() if "get" in vars(handler)}
    open_to_all = {"/healthcheck", "/static/x", "/login", "/logout", "/x"}
    assert shown - open_to_all == set(PAGES)


def test_whoever_knows_the_password_sees_queues_and_metrics(flower: Flower) -> None:
    queues = flower.ask("/api/queues/length").json()["active_queues"]
    assert {queue["name"] for queue in queues} == {"gateway", "coordinator", "execution", "memory"}
    assert all(name in flower.ask("/broker").text for name in ("gateway", "coordinator", "execution", "memory"))
    assert "flower_events_total" in flower.ask("/metrics").text
    assert flower.ask("/").status_code == 200


@pytest.mark.parametrize(
    "path", sorted({_example(p) for p, handler in _routes() if "post" in vars(handler)} - {"/tasks/datatable", "/x"})
)
def test_nobody_changes_anything(flower: Flower, path: str) -> None:
    assert flower.ask(path, None, "POST").status_code == 401
    assert flower.ask(path, method="POST").status_code == 403


def test_it_listens_on_the_loopback_address_alone(flower: Flower) -> None:
    sockets = psutil.Process(flower.process.pid).net_connections(kind="inet")
    assert {c.laddr for c in sockets if c.status == psutil.CONN_LISTEN} == {(ports.LOOPBACK, flower.port)}


def test_passwords_are_neither_shown_nor_logged(flower: Flower, redis_url: str) -> None:
    secrets = (PASSWORD, re.split("[:@]", redis_url)[2])
    pages = [flower.ask(path).text for path in PAGES]
    words = " ".join(psutil.Process(flower.process.pid).cmdline())
    for place in (*pages, words, flower.log.read_text()):
        assert not [secret for secret in secrets if secret in place]


@pytest.mark.parametrize(
    ("more", "why"),
    [({}, "Flower has no password: start"), ({"CLAWQ_FLOWER_PASSWORD": "short"}, "flower_password: ")],
)
def test_without_a_password_it_does_not_start(tmp_path: Path, more: Mapping[str, str], why: str) -> None:
    env = environ(tmp_path, REDIS_URL="redis://127.0.0.1:1/0", CLAWQ_FLOWER_PORT="0", **more)
    done = subprocess.run(COMMAND, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert why in line


def test_it_comes_back_with_redis(tmp_path: Path) -> None:
    with ExitStack() as life:
        url = life.enter_context(services.valkey(tmp_path / "redis"))
        with started(tmp_path, url) as flower:
            eventually(lambda: _beat(url, flower))
            life.close()
            assert flower.ask("/broker").status_code == 200
            with services.valkey(tmp_path / "redis") as again:
                assert again == url
                eventually(lambda: _beat(url, flower), timeout=60)
                assert flower.ask("/api/queues/length").status_code == 200


def _beat(url: str, flower: Flower) -> bool:
    """Send a heartbeat as workers do; whether Flower has heard of this one."""
    name = f"worker-{os.urandom(4).hex()}"
    with Celery(broker=url, set_as_current=False) as app, app.connection_for_write() as connection:
        app.events.Dispatcher(connection, hostname=name).send("worker-heartbeat", freq=2)
    return name in flower.ask("/workers?json=1").text
