"""A process's `/health`, `/ready` and `/metrics` over HTTP, beside whatever else it does."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from app.errors import SettingsError
from app.settings import settings

log = logging.getLogger(__name__)

#: A check answers (good, what to show).
Check = Callable[[], tuple[bool, dict[str, Any]]]


class HealthServer:
    """Serves probes from a daemon thread.

    `/health` asks whether the process should be restarted, `/ready` whether it does its work now.
    """

    def __init__(self, *, default_port: int, health: Check, ready: Check) -> None:
        """Bind at once.

        Raises:
            SettingsError: the port is taken.
        """
        port = settings().health_port
        port = default_port if port is None else port
        handler = _handler({"/health": health, "/ready": ready})
        try:
            self._server = ThreadingHTTPServer((settings().bind_host, port), handler)
        except OSError as exc:
            raise SettingsError(
                f"Cannot serve health checks on port {port}: {exc.strerror}. Set CLAWQ_HEALTH_PORT (0: a free one)."
            ) from exc
        self.port: int = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, name="health", daemon=True).start()
        log.info("health checks on port %d", self.port)

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()


def _handler(checks: dict[str, Check]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/metrics":
                self._answer(200, CONTENT_TYPE_LATEST, generate_latest())
            elif check := checks.get(self.path):
                good, shown = check()
                body = json.dumps({"status": "ok" if good else "unavailable", **shown}).encode()
                self._answer(200 if good else 503, "application/json", body)
            else:
                self._answer(404, "application/json", b'{"status": "not found"}')

        def _answer(self, status: int, content_type: str, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Probes come every few seconds; they are not news."""

    return Handler
