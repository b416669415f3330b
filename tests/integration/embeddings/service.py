"""A service that speaks the protocol of `/embeddings`, and misbehaves as it is told."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

DIMENSIONS = 4


def vector(text: str) -> list[float]:
    """What the service makes of a text; not of unit length."""
    return [1.0, float(len(text)), float(sum(map(ord, text)) % 97), -2.0]


@dataclass
class Request:
    """What was asked."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]


@dataclass
class Service:
    """Answers in a thread. `misbehave` holds what the next requests get instead of vectors."""

    url: str = ""
    requests: list[Request] = field(default_factory=list)
    misbehave: list[Callable[[_Handler], None]] = field(default_factory=list)
    #: A text longer than this is refused.
    most_characters: int = 10_000
    knows_dimensions: bool = True
    #: Set when the test is over: who waits need not wait longer.
    over: threading.Event = field(default_factory=threading.Event)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    service: Service

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.service.requests.append(Request(self.path, {k.lower(): v for k, v in self.headers.items()}, body))
        if self.service.misbehave:
            self.service.misbehave.pop(0)(self)
        elif "dimensions" in body and not self.service.knows_dimensions:
            self.answer(400, {"error": {"message": "no such parameter", "code": "unknown_parameter"}})
        elif any(not text or len(text) > self.service.most_characters for text in body["input"]):
            self.answer(400, {"error": {"message": f"too long: {body['input']}", "type": "invalid_request_error"}})
        else:
            # In any order: `index` says which is which.
            data = [{"index": at, "embedding": vector(text)} for at, text in enumerate(body["input"])]
            self.answer(200, {"object": "list", "data": data[::-1], "model": body["model"]})

    def answer(self, status: int, body: Any, **headers: str) -> None:
        sent = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(sent)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(sent)

    def log_message(self, *args: Any) -> None:
        pass


def says(status: int, body: Any = b"", **headers: str) -> Callable[[_Handler], None]:
    """Answer this."""
    return lambda handler: handler.answer(status, body, **headers)


def vectors(*rows: Any) -> Callable[[_Handler], None]:
    """Answer these vectors, whatever was asked."""
    return says(200, {"data": [{"index": at, "embedding": row} for at, row in enumerate(rows)]})


def silence(handler: _Handler) -> None:
    """Answer nothing, and keep the connection."""
    handler.service.over.wait(30)
    handler.close_connection = True


def hang_up(handler: _Handler) -> None:
    """Close the connection instead of answering."""
    handler.close_connection = True


def drip(handler: _Handler) -> None:
    """Send a byte now and then, and never all of them."""
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    try:
        while not handler.service.over.wait(0.05):
            handler.wfile.write(b" ")
    except OSError:
        pass
    handler.close_connection = True


@contextmanager
def running() -> Iterator[Service]:
    """A service on a free port of this machine."""
    service = Service()
    handler = type("Handler", (_Handler,), {"service": service})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = False
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    service.url = f"http://127.0.0.1:{server.server_port}/v1"
    try:
        yield service
    finally:
        service.over.set()
        server.shutdown()
        thread.join()
        server.server_close()
