"""A server of sockets in this process, and clients of it."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect
from werkzeug.serving import make_server

from api import closing as closing_
from api import create_app, news
from api.live import lobby as lobby_
from api.live import tail as tail_
from app import keys
from app.db import transaction

#: Seconds until a frame is missed.
PATIENCE_S = 20


class Client:
    """A socket's other end."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection

    def say(self, frame: Any) -> None:
        """Send a frame: text as it is, anything else as JSON."""
        self.connection.send(frame if isinstance(frame, str | bytes) else json.dumps(frame))

    def hear(self) -> dict[str, Any]:
        """The next frame."""
        return dict(json.loads(self.connection.recv(timeout=PATIENCE_S)))

    def ask(self, frame: Any) -> dict[str, Any]:
        """Send a frame; returns what comes next."""
        self.say(frame)
        return self.hear()

    def events(self, count: int) -> list[dict[str, Any]]:
        """The next `count` frames, which are events."""
        heard = [self.hear() for _ in range(count)]
        assert {frame["type"] for frame in heard} <= {"event"}, heard
        return heard

    def end(self) -> tuple[int, str]:
        """Hear on until the server ends it; returns code and reason."""
        try:
            while True:
                self.connection.recv(timeout=PATIENCE_S)
        except ConnectionClosed as exc:
            return (exc.rcvd.code, exc.rcvd.reason) if exc.rcvd else (1006, "")


@pytest.fixture
def key(clawq: pytest.MonkeyPatch) -> Callable[..., str]:
    """Make a key."""

    def make(owner: str = "ada", *scopes: str) -> str:
        with transaction() as db:
            return keys.create(db, name=owner, owner=owner, scopes=scopes or ("submit",))[1]

    return make


@pytest.fixture
def port(clawq: pytest.MonkeyPatch) -> Iterator[int]:
    """The port of a server of sockets."""
    server = make_server("127.0.0.1", 0, create_app(live=True), threaded=True)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server.server_port
    closing_.closing().begin()
    server.shutdown()
    thread.join()
    server.server_close()
    tail_.tail().close()
    news.news().close()
    for cached in (tail_.tail, news.news, closing_.closing, lobby_.lobby):
        cached.cache_clear()


@pytest.fixture
def open_socket(port: int) -> Iterator[Callable[..., Client]]:
    """Open a socket; all are closed at the end."""
    with ExitStack() as opened:

        def make(**options: Any) -> Client:
            url = f"ws://127.0.0.1:{port}/ws"
            return Client(opened.enter_context(connect(url, proxy=None, max_size=None, close_timeout=1, **options)))

        yield make


@pytest.fixture
def enter(open_socket: Callable[..., Client], key: Callable[..., str]) -> Callable[..., Client]:
    """Open a socket and say who one is."""

    def make(owner: str = "ada", *scopes: str) -> Client:
        client = open_socket()
        assert client.ask({"op": "auth", "key": key(owner, *scopes)})["type"] == "ack"
        return client

    return make
