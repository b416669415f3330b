"""The worker's side of a run, with a supervisor that does not listen, or is gone."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest

from tests.support import eventually
from workers.sandbox import conversation
from workers.sandbox.conversation import Conversation, Heard, Link, LinkError
from workers.sandbox.frames import JOB, KILL, STARTED, Unpacker, pack
from workers.sandbox.spec import Callbacks, Limits, SandboxSpec

#: More than the buffers of a socket pair take.
BIG = SandboxSpec(name="t-1", language="python", code="1", files={"big": bytes(8 << 20)})


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def in_background(held: list[Heard], spec: SandboxSpec, stop: threading.Event, ours: socket.socket) -> threading.Thread:
    holder = Conversation(spec, stop, Callbacks())
    thread = threading.Thread(target=lambda: held.append(holder.hold(Link(ours))), daemon=True)
    thread.start()
    return thread


def test_a_stop_is_seen_while_the_job_is_handed_over(ends: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = ends
    held: list[Heard] = []
    stop = threading.Event()
    thread = in_background(held, BIG, stop, ours)
    # Some of it has been sent, and the rest finds no room.
    eventually(lambda: theirs.recv(1, socket.MSG_PEEK) == JOB)
    stop.set()
    thread.join(conversation.SEND_S / 3)
    assert [(h.ending.cause, h.ending.started, h.ending.report) for h in held] == [("cancelled", False, None)]


def test_a_job_that_nobody_takes_is_given_up(
    ends: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conversation, "SEND_S", 0.3)
    with pytest.raises(LinkError):
        Conversation(BIG, threading.Event(), Callbacks()).hold(Link(ends[0]))


def test_a_big_job_arrives_whole(ends: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = ends
    stop = threading.Event()
    thread = in_background([], BIG, stop, ours)
    inbox, frames = Unpacker(), []
    while not frames:
        frames += inbox.feed(theirs.recv(1 << 16))
    ((kind, payload),) = frames
    assert (kind, len(payload) > 8 << 20) == (JOB, True)
    stop.set()
    assert inbox.feed(theirs.recv(100)) == [(KILL, b"")]
    thread.join(20)
    assert not thread.is_alive()


@pytest.mark.parametrize("cause", ["timeout", "cancelled"])
def test_a_kill_that_cannot_be_sent_changes_no_verdict(ends: tuple[socket.socket, socket.socket], cause: str) -> None:
    ours, theirs = ends
    stop = threading.Event()

    def tick() -> None:
        """The supervisor dies with its job; then the stop comes, or else the time is up."""
        if theirs.fileno() >= 0:
            theirs.close()
        elif cause == "cancelled":
            stop.set()

    theirs.sendall(pack(STARTED))
    limits = Limits(wall_s=60 if cause == "cancelled" else 1e-9)
    spec = SandboxSpec(name="t-1", language="python", code="1", limits=limits)
    heard = Conversation(spec, stop, Callbacks(tick=tick)).hold(Link(ours))
    assert (heard.ending.cause, heard.ending.started, heard.ending.report) == (cause, True, None)
