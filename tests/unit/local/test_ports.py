from __future__ import annotations

import socket

from app.local import ports


def test_a_listening_port_is_not_free() -> None:
    with socket.create_server((ports.LOOPBACK, 0)) as server:
        port = server.getsockname()[1]
        assert not ports.is_free(port)
    assert ports.is_free(port)


def test_a_remembered_port_is_kept_while_it_is_free() -> None:
    with socket.create_server((ports.LOOPBACK, 0)) as server:
        port = server.getsockname()[1]
        assert ports.pick(port) != port
    assert ports.pick(port) == port
    assert ports.pick(port, without=[port]) != port


def test_picked_ports_stay_below_those_of_outgoing_connections() -> None:
    assert all(20_000 <= ports.pick() < 30_000 for _ in range(20))
