"""The command line against an API that is a function."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

from app.cli import main as entry

#: Answers a method and a path with a status and a body.
Api = Callable[[str, str], tuple[int, str]]


@contextmanager
def serving(api: Api) -> Iterator[str]:
    """An HTTP server on 127.0.0.1; yields its URL."""

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            status, body = api(self.command, self.path)
            self.send_response(status)
            self.send_header("Content-Length", str(len(body.encode())))
            self.end_headers()
            self.wfile.write(body.encode())

        do_GET = do_POST = do_DELETE = _answer

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()


class Cli:
    """Runs commands in this process."""

    def __init__(self, patch: pytest.MonkeyPatch, capture: pytest.CaptureFixture[str]) -> None:
        self._patch = patch
        self._capture = capture

    def refuses(self, *argv: str) -> str:
        """The one sentence with which the command ends."""
        self._patch.setattr("sys.argv", ["clawq", *argv])
        with pytest.raises(SystemExit) as ended:
            entry.main()
        shown = self._capture.readouterr()
        assert (ended.value.code, shown.out) == (1, "")
        (line,) = shown.err.splitlines()
        return line


@pytest.fixture
def cli(environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    """The command line with a key and the address of an API that nobody serves."""
    environment.setenv("CLAWQ_API_URL", "http://127.0.0.1:1")
    environment.setenv("CLAWQ_API_KEY", "clawq_x_y")
    environment.setenv("NO_PROXY", "*")
    return Cli(environment, capsys)
