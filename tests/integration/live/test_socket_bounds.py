"""Bounds of sockets: places for all, and an end to who sends too much, or reads too little."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import pytest
from websockets.exceptions import ConnectionClosed

from api.live import connection, lobby, wire
from app.db import transaction
from app.tasks.report import report
from schema.tasks import EventKind
from tests.integration.live.conftest import Client
from tests.support import eventually, running

Opener = Callable[..., Client]


def test_places_are_counted_and_come_back(enter: Opener, open_socket: Opener, clawq: pytest.MonkeyPatch) -> None:
    lobby.lobby()._most = 4
    mine = [enter() for _ in range(3)]
    fourth = open_socket()
    assert open_socket().end()[0] == 1013, "all places are taken"
    fourth.connection.close()
    eventually(lambda: not lobby.lobby()._strangers)
    enter("bob").connection.close()
    mine[0].connection.close()
    eventually(lambda: lobby.lobby()._owners["ada"] == 2)
    enter()


def test_strangers_make_room_for_those_who_come_after_them(
    enter: Opener, open_socket: Opener, clawq: pytest.MonkeyPatch
) -> None:
    clawq.setattr(lobby, "MOST_STRANGERS", 2)
    first, second = open_socket(), open_socket()
    eventually(lambda: len(lobby.lobby()._strangers) == 2)
    enter()
    assert first.end()[0] == 1008
    assert second.ask({"op": "ping"})["code"] == "unauthorized"


def test_one_owner_does_not_get_all_places(enter: Opener, open_socket: Opener, key: Callable[..., str]) -> None:
    lobby.lobby()._most = 4
    for _ in range(3):
        enter("ada")
    client = open_socket()
    client.say({"op": "auth", "key": key("ada")})
    assert client.end()[0] == 1013
    enter("bob")


def test_a_frame_that_is_too_large_ends_the_connection_and_no_other(enter: Opener) -> None:
    good, bad = enter(), enter()
    with suppress(ConnectionClosed):
        bad.say("x" * (wire.MOST_BYTES + 1))
    assert bad.end()[0] == 1009
    assert good.ask({"op": "ping"}) == {"type": "ack"}


def test_a_client_that_floods_is_cut_off(enter: Opener, clawq: pytest.MonkeyPatch) -> None:
    clawq.setattr(wire, "MOST_FRAMES", 3)
    clawq.setattr(connection, "_FRAMES", 1)
    good, bad = enter(), enter()
    with suppress(ConnectionClosed):
        for _ in range(10_000):
            bad.say({"op": "cancel", "task_id": "x"})
    assert bad.end()[0] in (1008, 1006)
    assert good.ask({"op": "ping"}) == {"type": "ack"}


def test_a_client_that_does_not_read_is_cut_off(enter: Opener, clawq: pytest.MonkeyPatch) -> None:
    clawq.setattr(wire, "SEND_S", 0.1)
    ours = running()
    with transaction() as db:
        report(db, ours.id, ours.attempt, [(EventKind.LOG, {"text": "x" * 100_000})] * 300)
    good, bad = enter(), enter()
    bad.say({"op": "subscribe", "task_id": ours.id})
    eventually(lambda: lobby.lobby()._owners["ada"] == 1)
    assert good.ask({"op": "ping"}) == {"type": "ack"}
