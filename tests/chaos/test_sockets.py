"""Sockets: followers that are cut off, a server that is killed, and still the exact sequence for each."""

from __future__ import annotations

import json
import os
import random
import threading
import uuid
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from tests.chaos.followers import Follower, follow
from tests.chaos.rig import Rig
from tests.chaos.tasks import Tasks

SEED = int(os.environ.get("CLAWQ_CHAOS_SEED") or random.randrange(2**32))
#: Followers, events for each, and how often each is cut off.
CROWD, EVENTS, CUTS = 200, 1000, 5

_EVENTS = "SELECT e.task_id, e.seq FROM events e JOIN tasks t ON t.id = e.task_id WHERE"
_ORDER = {
    "task_id": f"{_EVENTS} t.id = %(id)s ORDER BY e.seq",
    "session_id": f"{_EVENTS} t.session_id = %(id)s ORDER BY e.xid, e.id",
    "workflow_id": f"{_EVENTS} t.workflow_id = %(id)s ORDER BY e.xid, e.id",
    # Of both, from their admission on.
    "agent_id": f"{_EVENTS} t.assigned_to = %(id)s AND e.seq > 1 ORDER BY e.xid, e.id",
}
#: What a program on a long way would report.
_REPORT = """
    WITH u AS (UPDATE tasks SET last_seq = last_seq + 10, updated_at = now() WHERE id = %(id)s RETURNING *)
    INSERT INTO events (task_id, seq, kind, round, attempt)
    SELECT id, last_seq - 10 + n, 'log', round, attempt FROM u, generate_series(1, 10) AS n
"""
_SESSION = "INSERT INTO sessions (id, owner, session_type) VALUES (%(id)s, 'admin', 'chat')"


@pytest.mark.timeout(240)
def test_every_follower_hears_the_exact_sequence_however_often_it_is_cut_off(rig: Rig, tasks: Tasks) -> None:
    print(f"CLAWQ_CHAOS_SEED={SEED}")
    dice = random.Random(SEED)
    session_id = uuid.uuid4().hex
    rig.inside.sql(_SESSION, id=session_id)
    long_task = tasks.post(delay_s=3600)
    step = {"task_type": "echo", "payload": {}, "delay_s": 3}
    flow_id = tasks.flow({"name": "wide", "tasks": [step | {"key": f"k{n}"} for n in range(EVENTS // 4)]})
    wanted = {
        "task_id": (long_task, EVENTS + 1),
        "session_id": (session_id, EVENTS),
        "workflow_id": (flow_id, EVENTS),
        "agent_id": ("execution_agent", EVENTS * 3 // 2),
    }
    crowd = [
        Follower((name, an_id), CUTS, total, dice)
        for name, (an_id, total) in wanted.items()
        for _ in range(CROWD // len(wanted))
    ]
    worker = threading.Thread(target=_work, args=(rig, tasks, long_task, session_id))
    worker.start()
    follow(crowd, rig.ws_url, rig.api_key, timeout=180)
    worker.join()
    for name, (an_id, _) in wanted.items():
        order = [tuple(row) for row in rig.inside.sql(_ORDER[name], id=an_id)]
        for follower in crowd:
            if follower.what[0] == name:
                assert follower.heard == order
                assert follower.connections > CUTS
    tasks.cancel(long_task)
    assert tasks.settle() == {"succeeded": EVENTS // 2, "cancelled": 1}


def _work(rig: Rig, tasks: Tasks, long_task: str, session_id: str) -> None:
    """A part of everything at a time; half-way the server of sockets dies."""
    parts = EVENTS // 100
    for part in range(parts):
        tasks.echo(EVENTS // 4 // parts, session_id=session_id)
        for _ in range(10):
            rig.inside.sql(_REPORT, id=long_task)
        if part == parts // 2:
            rig.kill("ws")


def test_who_sends_ten_megabytes_is_cut_off_and_nobody_else(rig: Rig) -> None:
    options: dict[str, Any] = {"proxy": None, "compression": None, "close_timeout": 1}
    with connect(rig.ws_url, **options) as good, connect(rig.ws_url, **options) as bad:
        for socket in (good, bad):
            socket.send(json.dumps({"op": "auth", "key": rig.api_key}))
            assert json.loads(socket.recv(timeout=20))["type"] == "ack"
        with pytest.raises(ConnectionClosed) as ended:  # noqa: PT012
            bad.send("x" * 10 * 2**20)
            while True:
                bad.recv(timeout=20)
        assert ended.value.rcvd
        assert ended.value.rcvd.code == 1009
        good.send(json.dumps({"op": "ping"}))
        assert json.loads(good.recv(timeout=20)) == {"type": "ack"}


def test_a_server_that_is_asked_to_leave_says_so_and_goes(rig: Rig) -> None:
    with connect(rig.ws_url, proxy=None, close_timeout=1) as socket:
        socket.send(json.dumps({"op": "auth", "key": rig.api_key}))
        socket.recv(timeout=20)
        # Returns once it is gone, and another one has started.
        rig.ask_to_leave("ws")
        with pytest.raises(ConnectionClosed) as ended:
            socket.recv(timeout=20)
        assert ended.value.rcvd
        assert ended.value.rcvd.code == 1012
