"""A client that costs next to nothing, so that the server is what is measured: a kept connection, bytes made before."""

from __future__ import annotations

import json
import socket
from typing import Any
from urllib.parse import urlsplit

_LENGTH = b"\r\nContent-Length: "


class Client:
    """One connection to the API."""

    def __init__(self, api_url: str, api_key: str) -> None:
        address = urlsplit(api_url)
        self._socket = socket.create_connection((address.hostname or "", address.port or 80), timeout=60)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._head = f"Host: {address.netloc}\r\nAuthorization: Bearer {api_key}\r\nContent-Type: application/json"

    def request(self, method: str, path: str, body: Any = None) -> bytes:
        """The bytes of a request, to be sent as often as one likes."""
        content = b"" if body is None else json.dumps(body).encode()
        head = f"{method} {path} HTTP/1.1\r\n{self._head}\r\nContent-Length: {len(content)}\r\n\r\n"
        return head.encode() + content

    def send(self, request: bytes) -> bytes:
        """Send a request, which must succeed; returns the body of the answer."""
        self._socket.sendall(request)
        answer = self._socket.recv(65536)
        while (end := answer.find(b"\r\n\r\n")) < 0:
            answer += self._more()
        start = answer.index(_LENGTH) + len(_LENGTH)
        size = end + 4 + int(answer[start : answer.index(b"\r\n", start)])
        while len(answer) < size:
            answer += self._more()
        if answer[9:10] != b"2":
            raise RuntimeError(answer[:500].decode())
        return answer[end + 4 :]

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """One request, which must succeed; returns the answer's JSON."""
        return json.loads(self.send(self.request(method, path, body)))

    def _more(self) -> bytes:
        if not (more := self._socket.recv(65536)):
            raise ConnectionError("the server hung up")
        return more
