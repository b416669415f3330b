"""Whatever Bob says to a socket with ids of Ada's is answered as with ids of nobody's, and tells nothing of hers."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, get_args

import pytest

from api.payloads.live import KINDS, Op
from app.db import transaction
from app.messages.deliver import deliver
from tests.integration.live.conftest import Client
from tests.support import employ, put, sql
from tests.things import AGENT, Things, things_of
from tests.worlds import TABLES

NOBODY = "0190f3a0-0000-7000-8000-000000000000"
_ECHO = MappingProxyType({"task_type": "echo", "payload": {}})
#: What is asked of each kind of id; agents are everybody's.
_FRAMES: Mapping[str, Callable[[str], dict[str, Any]]] = {
    "cancel": lambda one: {"op": "cancel", "task_id": one},
    "acknowledge": lambda one: {"op": "ack", "message_id": one},
    "depend": lambda one: {"op": "submit", "task": {**_ECHO, "dependencies": [one]}},
    "session": lambda one: {"op": "submit", "task": {**_ECHO, "session_id": one}},
    "assign": lambda one: {"op": "submit", "task": {**_ECHO, "assigned_to": one}},
    **{f"follow {name}": lambda one, name=name: {"op": "subscribe", name: one} for name in KINDS},  # type: ignore[misc]
    **{f"leave {name}": lambda one, name=name: {"op": "unsubscribe", name: one} for name in KINDS},  # type: ignore[misc]
}


@pytest.fixture
def hers(clawq: pytest.MonkeyPatch) -> Things:
    """What Ada has."""
    return things_of("ada")


def asked(hers: Things) -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    """Each of Ada's ids, in a frame and in the same with an id of nobody's."""
    for make in _FRAMES.values():
        for one in hers.own:
            yield one, make(one), make(NOBODY)


def test_her_ids_are_nobody_s(enter: Callable[..., Client], hers: Things) -> None:
    bob = enter("bob")
    before = hers.rows([table.name for table in TABLES])
    for one, with_hers, with_none in asked(hers):
        answer, other = bob.ask(with_hers), bob.ask(with_none)
        assert json.loads(json.dumps(answer).replace(one, NOBODY)) == other, with_hers
        assert answer["type"] == "error" or with_hers["op"] == "unsubscribe"
    assert hers.rows([table.name for table in TABLES]) == before


def test_of_an_agent_that_both_use_he_is_told_his_own(enter: Callable[..., Client], hers: Things) -> None:
    employ()
    bob = enter("bob")
    for agent in (AGENT, "execution_agent"):
        assert bob.ask({"op": "subscribe", "agent_id": agent})["type"] == "ack"
    his = put("succeeded", owner="bob")
    sql("UPDATE agents SET status = 'active'")
    put("succeeded", owner="ada")
    with transaction() as db:
        deliver(db)
    last = put("succeeded", owner="bob")
    told = [frame for frame in bob.events(6) if frame["type"] == "event"]
    assert [frame["task_id"] for frame in told] == [his] * 3 + [last] * 3


def test_every_operation_is_asked(hers: Things) -> None:
    known = {get_args(model.model_fields["op"].annotation)[0] for model in get_args(get_args(Op)[0])}
    assert {make(NOBODY)["op"] for make in _FRAMES.values()} == known - {"auth", "ping"}
