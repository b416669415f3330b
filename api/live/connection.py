"""One socket: its frames in, its events out, from the first frame to the last. See docs/api.md, "Sockets"."""

from __future__ import annotations

import json
import logging
import math
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from typing import Any

from pydantic import ValidationError
from pydantic_core import from_json
from simple_websocket import ConnectionClosed  # type: ignore[import-untyped]
from sqlalchemy.exc import SQLAlchemyError
from wsproto.frame_protocol import CloseReason
from wsproto.utilities import LocalProtocolError

from api import auth, problems
from api.closing import closing
from api.live import feed, ops
from api.live.lobby import lobby
from api.live.tail import tail
from api.payloads.live import OPS, AcknowledgeIn, AuthIn, CancelIn, PingIn, SubmitIn, SubscribeIn, UnsubscribeIn
from app import metrics
from app.db import single
from app.errors import ClawqError, Conflict, Invalid, Unauthorized, Unavailable
from app.keys import Caller, is_usable
from app.storable import check_storable
from app.streams.stream import Kind, Stream

log = logging.getLogger(__name__)

#: Seconds to say who one is.
AUTH_S = 5.0
#: Seconds between two looks at whether the key is still good.
KEY_S = 30.0
#: Seconds until a look that Postgres did not answer is tried again.
_AGAIN_S = 1.0
#: Subscriptions of a socket, and frames of it that are looked at before its events have their turn.
MOST_STREAMS = 100
_FRAMES = 50
#: How it shows that the connection has ended, whoever ended it; the reader may do so between two of our steps.
GONE = (ConnectionClosed, OSError, LocalProtocolError)
#: What is said at the end (RFC 6455; 1012 and 1013 are IANA's).
_RESTARTS = 1012
_TRY_AGAIN = 1013


class Subscription:
    """A stream that a socket follows."""

    def __init__(self, stream: Stream, ref: str | int | None) -> None:
        self.stream = stream
        self.ref = ref
        #: There may be something to see.
        self.rung = True

    @property
    def due_at(self) -> float:
        """When to look, on the monotonic clock."""
        again = self.stream.due_at
        return 0.0 if self.rung else math.inf if again is None else again


class Connection:
    """A socket from when it is open. All of it runs in the thread of its request.

    Args:
        ws: a simple_websocket server; its `event` is the one bell that all rings come by: frames, news, the end.
    """

    def __init__(self, ws: Any) -> None:
        self._ws = ws
        self._caller: Caller | None = None
        self._subscriptions: dict[tuple[Kind, str], tuple[Subscription, ExitStack]] = {}
        self._must_go = False
        self._key_good_until = 0.0
        self._revoked = False
        self._rests_until = 0.0

    def serve(self) -> None:
        """Serve until either side ends it."""
        try:
            lobby().enter(self)
        except Unavailable as exc:
            return self._end(_TRY_AGAIN, exc.detail)
        try:
            with closing().watch(self._ws.event):
                self._converse()
        except GONE:
            pass
        finally:
            for _, ends in self._subscriptions.values():
                ends.close()
            lobby().leave(self, self._caller.owner if self._caller else None)

    def make_room(self) -> None:
        """Others wait for a place: who has not said who he is has to go."""
        self._must_go = True
        self._ws.event.set()

    def _converse(self) -> None:
        give_up = time.monotonic() + AUTH_S
        while self._ws.connected and not closing().begun:
            self._ws.event.wait(self._pause(give_up))
            self._ws.event.clear()
            self._take_frames()
            if self._caller is None:
                if self._must_go or time.monotonic() >= give_up:
                    return self._end(CloseReason.POLICY_VIOLATION, f"Say who you are within {AUTH_S:.0f} s.")
            else:
                self._tell_news()
                if not self._key_is_good():
                    return self._end(CloseReason.POLICY_VIOLATION, "The API key is no longer valid.")
        if closing().begun:
            self._end(_RESTARTS, "The server restarts: connect again.")

    def _pause(self, give_up: float) -> float:
        until = give_up if self._caller is None else self._key_good_until
        for subscription, _ in self._subscriptions.values():
            until = min(until, max(self._rests_until, subscription.due_at))
        return max(0.0, until - time.monotonic())

    # Frames in

    def _take_frames(self) -> None:
        for _ in range(_FRAMES):
            raw = self._ws.receive(timeout=0)
            if raw is None:
                return
            self._answer(raw)
        self._ws.event.set()

    def _answer(self, raw: str | bytes) -> None:
        ref = None
        try:
            said = _parse(raw)
            ref = said.get("ref") if isinstance(said, dict) and isinstance(said.get("ref"), str | int) else None
            self._do(_model(raw))
        except ClawqError as exc:
            self._refuse(ref, exc)
        except problems.AWAY as exc:
            code, detail = problems.away(exc)
            self._send({"type": "error", "code": code, "detail": detail, "errors": [], "ref": ref})
        except SQLAlchemyError as exc:
            log.warning("a frame was refused by Postgres: %s", type(exc).__name__)
            self._refuse(ref, Conflict("Something that this refers to has just changed or gone; look and try again."))

    def _refuse(self, ref: str | int | None, exc: ClawqError) -> None:
        log.info("refused a frame: %s", exc.code)
        self._send(
            {
                "type": "error",
                "code": exc.code,
                "detail": exc.detail,
                "errors": [{"loc": list(p.loc), "msg": p.msg} for p in exc.problems[:100]],
                "ref": ref,
            }
        )
        if self._caller is None or isinstance(exc, Unauthorized):
            self._end(_TRY_AGAIN if isinstance(exc, Unavailable) else CloseReason.POLICY_VIOLATION, exc.detail)

    def _do(self, frame: Any) -> None:
        if isinstance(frame, AuthIn):
            return self._introduce(frame)
        if self._caller is None:
            raise Unauthorized('The first frame must be {"op":"auth"} with a key or a ticket.')
        if isinstance(frame, SubscribeIn):
            return self._subscribe(self._caller, frame)
        if isinstance(frame, UnsubscribeIn):
            _, ends = self._subscriptions.pop(frame.followed, (None, ExitStack()))
            ends.close()
            return self._ack(frame)
        self._ack(frame, **_ANSWERS[type(frame)](self._caller, frame))

    def _introduce(self, frame: AuthIn) -> None:
        if self._caller is not None:
            raise Conflict("Who you are has been said already.")
        caller = ops.authenticate(frame)
        lobby().introduce(self, caller.owner)
        self._caller = caller
        self._key_good_until = time.monotonic() + KEY_S
        self._ack(frame, owner=caller.owner)

    def _subscribe(self, caller: Caller, frame: SubscribeIn) -> None:
        auth.require(caller, "read")
        kind, an_id = frame.followed
        if len(self._subscriptions) >= MOST_STREAMS and frame.followed not in self._subscriptions:
            raise Conflict(f"A socket follows at most {MOST_STREAMS} things.")
        stream = Stream(kind, an_id, caller, None if frame.after is None else str(frame.after))
        with single() as db:
            stream.check(db)
        # Of the same thing: from where it is asked for now.
        _, earlier = self._subscriptions.pop(frame.followed, (None, ExitStack()))
        earlier.close()
        subscription, ends = Subscription(stream, frame.ref), ExitStack()
        ends.enter_context(tail().follow(an_id, _ringer(subscription, self._ws.event), agent=kind == "agent"))
        ends.enter_context(metrics.STREAMS.track_inprogress())
        self._subscriptions[frame.followed] = (subscription, ends)
        self._ack(frame)

    # Events out

    def _tell_news(self) -> None:
        """A look at each stream that is due; one with more to tell has its turn again after the others."""
        now = time.monotonic()
        if now < self._rests_until:
            return
        try:
            for subscription, _ in list(self._subscriptions.values()):
                if subscription.due_at <= now:
                    self._tell(subscription)
        except SQLAlchemyError as exc:
            log.warning("a stream cannot be read: %s", type(exc).__name__)
            self._rests_until = now + _AGAIN_S

    def _tell(self, subscription: Subscription) -> None:
        # Before the look: what happens after it rings again.
        subscription.rung = False
        try:
            items = feed.look(subscription.stream)
        except SQLAlchemyError:
            subscription.rung = True
            raise
        for item in items:
            # A slow client makes this take long. What it is not told now it asks for when it connects again.
            if closing().begun or not self._key_is_good():
                return
            self._ws.send(feed.frame(item, subscription.ref).model_dump_json(exclude_none=True))
            metrics.FRAMES.inc()
        if subscription.stream.more:
            subscription.rung = True
            self._ws.event.set()

    def _key_is_good(self) -> bool:
        assert self._caller is not None
        if time.monotonic() >= self._key_good_until and not self._revoked:
            self._key_good_until = time.monotonic() + KEY_S
            # While Postgres is away nothing can be read or written, either.
            with suppress(SQLAlchemyError), single() as db:
                self._revoked = not is_usable(db, self._caller.key_id)
        return not self._revoked

    def _ack(self, frame: Any, **more: Any) -> None:
        self._send({"type": "ack", "ref": frame.ref, **more})

    def _send(self, said: dict[str, Any]) -> None:
        self._ws.send(json.dumps({name: value for name, value in said.items() if value is not None}))

    def _end(self, code: int, why: str) -> None:
        if self._ws.connected:
            self._ws.close(code, why)


_ANSWERS: dict[type, Callable[[Caller, Any], dict[str, Any]]] = {
    SubmitIn: ops.submit,
    CancelIn: ops.cancel_task,
    AcknowledgeIn: ops.acknowledge,
    PingIn: lambda _caller, _frame: {},
}


def _ringer(subscription: Subscription, bell: threading.Event) -> Callable[[], None]:
    def ring() -> None:
        subscription.rung = True
        bell.set()

    return ring


def _parse(raw: str | bytes) -> Any:
    """A frame as JSON. Raises Invalid."""
    if isinstance(raw, bytes):
        raise Invalid("Send frames of text.")
    try:
        said = from_json(raw, allow_inf_nan=False)
    except ValueError as exc:
        raise Invalid(f"The frame is not valid JSON: {exc}.") from None
    check_storable(said)
    return said


def _model(raw: str | bytes) -> Any:
    """A frame as one of the models of api/payloads/live.py. Raises Invalid."""
    try:
        return OPS.validate_json(raw, strict=True)
    except ValidationError as exc:
        raise problems.invalid(exc) from None
