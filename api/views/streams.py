"""Streams: server-sent events for curl and browsers, and tickets for sockets."""

from __future__ import annotations

import logging
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack

from flask import Response, request
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from api.closing import closing
from api.endpoints import Reply, Section
from api.live import feed
from api.live.connection import KEY_S
from api.live.tail import tail
from api.live.wire import SEND_S
from api.news import news
from api.payloads.live import StreamQuery, TicketIn, TicketOut
from app import metrics, tickets
from app.db import single
from app.errors import Unavailable
from app.keys import Caller, is_usable
from app.streams.stream import Item, Stream

log = logging.getLogger(__name__)

section = Section("Live")

MEDIA_TYPE = "text/event-stream"
#: Seconds between two signs of life: proxies end what is silent, and a client that is gone shows by them.
_ALIVE_S = 15.0
#: Milliseconds after which a browser connects again.
_RETRY_MS = 1000


@section.route("POST", "/ws-tickets", scope="read", answers={201: TicketOut})
def issue_ticket(db: Session, caller: Caller, body: TicketIn) -> Reply:
    """Issue a ticket, which opens one socket within 30 seconds.

    For browsers, which can send no Authorization header with a socket.
    """
    ticket, expires_at = tickets.issue(db, caller.key_id)
    return Reply(TicketOut(ticket=ticket, expires_at=expires_at), 201)


@section.route(
    "GET", "/events/stream", scope="read", answers={200: None, 204: None}, media_type=MEDIA_TYPE, refers=True
)
def stream_events(caller: Caller, query: StreamQuery) -> Response:
    """Follow a task, a workflow, a session or an agent, as server-sent events.

    Begins behind Last-Event-ID or `after`, or with the first event. Of a task or workflow that has ended the stream
    ends with the last event, and 204 says that there is nothing left.
    """
    kind, an_id = query.followed
    stream = Stream(kind, an_id, caller, request.headers.get("Last-Event-ID") or query.after)
    with single() as db:
        stream.check(db)
    with ExitStack() as held:
        # Known to the tail before the first look: nothing happens unseen between the two.
        bell = held.enter_context(news().watch(an_id, caller.owner))
        if bell is None:
            raise Unavailable("All places for streams are taken, or all that one owner may have.")
        held.enter_context(tail().follow(an_id, bell.set, agent=kind == "agent"))
        items = feed.look(stream)
        ended = not stream.more and feed.has_ended(stream)
        if ended and not items:
            return Response(status=204)
        held.enter_context(closing().watch(bell))
        held.enter_context(metrics.STREAMS.track_inprogress())
        _bound_sends()
        response = Response(_lines(caller, stream, bell, items, ended), content_type=MEDIA_TYPE)
        response.headers["X-Accel-Buffering"] = "no"
        response.call_on_close(held.pop_all().close)
        return response


def _lines(caller: Caller, stream: Stream, bell: threading.Event, items: list[Item], ended: bool) -> Iterator[str]:
    """The text of a stream, from what the first look found on."""
    yield f"retry: {_RETRY_MS}\n\n"
    key_good_until = time.monotonic() + KEY_S
    alive_until = time.monotonic() + _ALIVE_S
    while True:
        for item in items:
            frame = feed.frame(item)
            yield f"id: {item.cursor}\nevent: {frame.type}\ndata: {frame.model_dump_json(exclude_none=True)}\n\n"
            metrics.FRAMES.inc()
            alive_until = time.monotonic() + _ALIVE_S
            if closing().begun:
                return
        if ended or closing().begun:
            return
        if not stream.more:
            bell.wait(max(0.0, alive_until - time.monotonic()))
        # Whatever rang, it may have been for others.
        if time.monotonic() >= alive_until:
            yield ": still here\n\n"
            alive_until = time.monotonic() + _ALIVE_S
        # Before the look: what happens after it rings again.
        bell.clear()
        try:
            if time.monotonic() > key_good_until:
                key_good_until = time.monotonic() + KEY_S
                with single() as db:
                    if not is_usable(db, caller.key_id):
                        return
            items = feed.look(stream)
            ended = not stream.more and feed.has_ended(stream)
        except SQLAlchemyError as exc:
            # The client connects again, and goes on where it was.
            log.warning("a stream ends, for it cannot be read: %s", type(exc).__name__)
            return


def _bound_sends() -> None:
    """A client that does not read loses its place."""
    sock = request.environ.get("gunicorn.socket")
    if sock is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", int(SEND_S), 0))
