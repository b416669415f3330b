"""Frames of all kinds, good, bad and broken: the server lives, and whoever else is connected does not notice."""

from __future__ import annotations

import base64
import json
import os
import socket
import struct
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from api.live import lobby
from tests.integration.live.conftest import Client
from tests.support import eventually

EXAMPLES = int(os.environ.get("CLAWQ_FUZZ_EXAMPLES") or 60)

_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
_OPS = st.sampled_from(["auth", "submit", "cancel", "ping", "subscribe", "unsubscribe", "fly", "", None, 5])
_WORDS = (
    "key",
    "ticket",
    "task",
    "idempotency_key",
    "ref",
    "task_id",
    "workflow_id",
    "session_id",
    "agent_id",
    "after",
)
_FIELDS = st.sampled_from([*_WORDS, "more"])
_FRAMES = st.dictionaries(_FIELDS, _JSON, max_size=4).flatmap(lambda fields: _OPS.map(lambda op: {"op": op} | fields))
_TEXTS = st.one_of(_FRAMES.map(json.dumps), _JSON.map(json.dumps), st.text(max_size=50), st.binary(max_size=50))


@pytest.fixture
def client(enter: Callable[..., Client]) -> Client:
    """Somebody who is connected all the while."""
    return enter()


@settings(max_examples=EXAMPLES, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
@given(said=st.lists(_TEXTS, min_size=1, max_size=8))
def test_whatever_is_said_has_an_answer(client: Client, said: list[str | bytes]) -> None:
    for frame in said:
        answer = client.ask(frame)
        assert answer["type"] in ("ack", "error", "event"), answer
        assert answer.get("code") not in ("internal", "unauthorized")
    client.say({"op": "ping", "ref": "end"})
    while client.hear().get("ref") != "end":
        pass


_OPCODES = st.integers(0, 15)
#: FIN and reserved bits, opcode, masked or not, announced length (None: the true one), and what follows.
_RAW = st.tuples(
    st.integers(0, 15), _OPCODES, st.booleans(), st.none() | st.integers(0, 2**63 - 1), st.binary(max_size=200)
)


def _encode(bits: int, opcode: int, masked: bool, length: int | None, body: bytes) -> bytes:
    announced = len(body) if length is None else length
    flag = 128 if masked else 0
    if announced < 126:
        size = bytes([flag | announced])
    elif announced < 2**16:
        size = bytes([flag | 126]) + struct.pack(">H", announced)
    else:
        size = bytes([flag | 127]) + struct.pack(">Q", announced)
    return bytes([bits << 4 | opcode]) + size + (b"\0\0\0\0" if masked else b"") + body


@settings(max_examples=EXAMPLES, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
@given(frames=st.lists(_RAW, min_size=1, max_size=5), noise=st.binary(max_size=60))
def test_bytes_that_are_no_frames(port: int, client: Client, frames: list[Any], noise: bytes) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=20) as raw:
        raw.sendall(_upgrade(port))
        assert raw.recv(4096).startswith(b"HTTP/1.1 101")
        try:
            for frame in frames:
                raw.sendall(_encode(*frame))
            raw.sendall(noise)
            raw.shutdown(socket.SHUT_WR)
            while raw.recv(4096):
                pass
        except OSError:
            pass
    assert client.ask({"op": "ping"}) == {"type": "ack"}
    eventually(lambda: not lobby.lobby()._strangers)


def _upgrade(port: int) -> bytes:
    key = base64.b64encode(b"0123456789abcdef").decode()
    return (
        f"GET /ws HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n"
    ).encode()
