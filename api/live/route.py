"""The path /ws: who may open a socket, and what it is made of."""

from __future__ import annotations

import selectors
from contextlib import suppress
from typing import Any

from flask import Flask, Response, request
from flask_sock import Sock

from api import problems
from api.live.connection import GONE, Connection
from api.live.wire import MOST_BYTES, Reader, Wire
from api.patience import LINGER_S
from app.settings import settings

PATH = "/ws"
#: Seconds between two pings. A client that has not answered one by the next is gone.
PING_S = 25
#: Where servers keep the client's connection.
_SOCKETS = ("gunicorn.socket", "werkzeug.socket")


def register(app: Flask) -> None:
    """Open /ws on `app`."""
    app.config["SOCK_SERVER_OPTIONS"] = {
        "ping_interval": PING_S,
        "max_message_size": MOST_BYTES,
        "receive_bytes": 16 * 1024,
        "thread_class": Reader,
        # The usual one takes a descriptor for each socket.
        "selector_class": selectors.PollSelector,
    }
    app.before_request(_prepare)
    Sock(app).route(PATH)(_serve)


def _serve(ws: Any) -> None:
    try:
        Connection(ws).serve()
    finally:
        with suppress(*GONE):
            ws.close()
        # Until the client has answered that, or has had its time.
        ws.thread.join(LINGER_S)
        if ws.thread.is_alive():
            ws.sock.cut()


def _prepare() -> Response | None:
    """Before a socket is opened: a page of elsewhere may not, and its frames shall go by our wire."""
    if not (request.url_rule and request.url_rule.websocket):
        return None
    origin = request.headers.get("Origin")
    # Programs send none; a browser always does, and says the truth.
    if origin and origin.partition("://")[2] != request.host and origin not in settings().ws_origins:
        return problems.problem(403, "forbidden", "Pages of this origin may not open sockets here.")
    if request.headers.get("Sec-WebSocket-Version") != "13" or not request.headers.get("Sec-WebSocket-Key"):
        later = {"Sec-WebSocket-Version": "13"}
        return problems.problem(400, "malformed", "This path takes WebSocket handshakes of version 13.", (), later)
    # Compression would cost each socket a quarter of a megabyte, and let a small frame become a large one.
    request.environ.pop("HTTP_SEC_WEBSOCKET_EXTENSIONS", None)
    for name in _SOCKETS:
        if name in request.environ:
            request.environ[name] = Wire(request.environ[name])
    return None
