"""Patience: a client's socket ends its reads when the client's time is up."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
from gunicorn.workers.gthread import ThreadWorker

from api import patience as patience_
from api.patience import Client, Worker
from tests.support import eventually


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, Client]]:
    """A client, and the server's end of its connection."""
    far, near = socket.socketpair()
    client = Client(fileno=near.detach())
    with far, client:
        yield far, client


def test_what_is_there_is_read(pair: tuple[socket.socket, Client]) -> None:
    far, client = pair
    client.allow(5)
    far.sendall(b"ab")
    assert client.recv(1) == b"a"
    assert client.recv(10) == b"b"
    far.close()
    assert client.recv(10) == b""


def test_silence_ends_in_time(pair: tuple[socket.socket, Client]) -> None:
    _, client = pair
    client.allow(0.1)
    started = time.monotonic()
    for _ in range(2):
        with pytest.raises(ConnectionResetError):
            client.recv(1)
    assert 0.1 <= time.monotonic() - started < 5
    assert client.gettimeout() is None


def test_an_end_of_gunicorn_s_that_comes_first_counts(pair: tuple[socket.socket, Client]) -> None:
    _, client = pair
    client.allow(60)
    client.settimeout(0.1)
    with pytest.raises(ConnectionResetError):
        client.recv(1)
    assert client.gettimeout() == 0.1


def test_bytes_earn_time_and_a_trickle_earns_next_to_none(pair: tuple[socket.socket, Client]) -> None:
    far, client = pair
    client.allow(0.1, bytes_per_s=1000)
    far.sendall(b"x" * 100_000)
    assert client.recv(1) == b"x"
    assert client._until - time.monotonic() < 0.11
    while client._until - time.monotonic() < 50:
        client.recv(10_000)


def test_a_client_asks_again_when_its_next_request_is_there(pair: tuple[socket.socket, Client]) -> None:
    far, client = pair
    assert not client.asks_again()
    far.sendall(b"GET")
    assert eventually(client.asks_again)


@pytest.mark.parametrize(("turn_s", "answered"), [(5.0, 3), (0.0, 1)])
def test_a_client_that_asks_on_is_answered_on_until_its_turn_is_over(
    pair: tuple[socket.socket, Client], monkeypatch: pytest.MonkeyPatch, turn_s: float, answered: int
) -> None:
    far, client = pair
    requests = []

    def answer(_: object, conn: SimpleNamespace) -> bool:
        requests.append(conn.sock.recv(1))
        return True

    monkeypatch.setattr(ThreadWorker, "handle", answer)
    monkeypatch.setattr(patience_, "_TURN_S", turn_s)
    far.sendall(b"abc")
    worker = Worker.__new__(Worker)
    worker.alive = True
    assert worker.handle(SimpleNamespace(sock=client)) is True
    assert len(requests) == answered
