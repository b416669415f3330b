"""The API behind its own gunicorn: clients that dawdle cost a place for a while, and nobody else an answer."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path

import psutil
import pytest

from app import keys
from app.db import transaction
from app.local import ports, procfile
from tests import support

ROOT = Path(__file__).resolve().parents[3]
SLOW = 40
#: Starts gunicorn's command line as the API does, with a client's time cut short.
HASTY = "import sys; from api import patience; patience.REQUEST_S = 0.3; from gunicorn.app.wsgiapp import run; run()"


@dataclass
class Server:
    """A server that listens."""

    port: int
    pid: int

    def get(self, path: str, timeout: float = 5) -> int:
        """The status of a GET on a connection of its own."""
        with closing(HTTPConnection(ports.LOOPBACK, self.port, timeout=timeout)) as connection:
            connection.request("GET", path)
            return connection.getresponse().status

    def send(self, data: bytes) -> socket.socket:
        """A connection on which this was sent, and then nothing more."""
        client = socket.create_connection((ports.LOOPBACK, self.port), timeout=20)
        client.sendall(data)
        return client

    def is_up(self) -> bool:
        """Whether it answers."""
        try:
            return self.get("/health") == 200
        except OSError:
            return False


@contextmanager
def served(*program: str) -> Iterator[Server]:
    """The Procfile's line of the API as a process, started by `program` instead of its own if one is given."""
    port = ports.pick()
    (line,) = (line for line in procfile.read(ROOT / "Procfile") if line.name == "api")
    command, *options = line.argv({"CLAWQ_API_PORT": str(port)})
    start = program or (str(Path(sys.executable).with_name(command)),)
    process = subprocess.Popen([*start, *options], cwd=ROOT, env=os.environ, stderr=subprocess.DEVNULL)
    try:
        running = Server(port, process.pid)
        support.eventually(running.is_up, timeout=60)
        yield running
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def key_text(clawq: pytest.MonkeyPatch) -> str:
    """A key that may submit."""
    with transaction() as db:
        return keys.create(db, name="ada", owner="ada", scopes=["submit"])[1]


def post(key_text: str, body: bytes, length: int | None = None) -> bytes:
    """A POST as bytes; `length` is what it says of its body."""
    head = [
        "POST /api/v1/tasks HTTP/1.1",
        "Host: localhost",
        f"Authorization: Bearer {key_text}",
        "Content-Type: application/json",
        f"Content-Length: {len(body) if length is None else length}",
    ]
    return "\r\n".join([*head, "", ""]).encode() + body


def everything(client: socket.socket) -> bytes:
    """All that the server sends until it closes."""
    return b"".join(iter(lambda: client.recv(65536), b""))


def test_others_are_answered_while_many_dawdle(key_text: str) -> None:
    unknown = f"clawq_{'0' * 32}_{'x' * 43}"
    dawdlers: list[Callable[[], bytes]] = [
        lambda: post(key_text, b"{", 1000),
        lambda: post(unknown, b"{", 1000),
        lambda: b"POST /api/v1/tasks HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{",
        lambda: b"POST /api/v1/tasks HT",
    ]
    with served() as api, ExitStack() as clients:
        for place in range(SLOW):
            clients.enter_context(api.send(dawdlers[place % len(dawdlers)]()))
        # Long enough to notice whoever waits for one of them in the thread that accepts.
        for _ in range(20):
            assert api.get("/health", timeout=2) == 200


def test_a_body_that_does_not_arrive_is_given_up(key_text: str) -> None:
    with served(sys.executable, "-c", HASTY) as api:
        with api.send(post(key_text, b"{", 1000)) as client:
            head, _, body = everything(client).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 408 ")
        assert json.loads(body)["code"] == "timeout"
        with api.send(b"GET /health HT") as client:
            assert everything(client) == b""
        assert support.scalar("SELECT count(*) FROM tasks") == 0


def test_a_stranger_s_body_is_not_waited_for(key_text: str) -> None:
    with served() as api, api.send(post("clawq_x", b"{", 1000)) as client:
        assert client.recv(65536).startswith(b"HTTP/1.1 401 ")


def test_a_large_body_on_a_kept_connection_arrives(key_text: str) -> None:
    body = json.dumps({"task_type": "echo", "payload": {"text": "x" * 2**18}}).encode()
    with served() as api, api.send(post(key_text, body)) as client, client.makefile("rb") as answers:
        for again in (True, False):
            assert b" 202 " in answers.readline()
            (length,) = (int(h.split(b":")[1]) for h in iter(answers.readline, b"\r\n") if h.startswith(b"Content-Le"))
            assert json.loads(answers.read(length))["status"] == "pending"
            if again:
                client.sendall(post(key_text, body))


def test_a_line_of_eight_kilobytes_is_read(key_text: str) -> None:
    with served() as api:
        assert api.get(f"/health?{'x' * 8000}") == 200


def test_the_server_keeps_to_one_cpu(key_text: str) -> None:
    with served() as api:
        workers = psutil.Process(api.pid).children()
        assert [len(worker.cpu_affinity()) for worker in workers] == [1]
        assert all(len(os.sched_getaffinity(thread.id)) == 1 for worker in workers for thread in worker.threads())
