"""The command line against an API that answers what a test says."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from app.cli import main as entry
from app.cli.client import Client

#: Called with a method, a path, and the query or the body.
Answer = Callable[[str, str, Any], Any]


class Scripted:
    """What is asked of the API, and what it answers."""

    def __init__(self, patch: pytest.MonkeyPatch, capture: pytest.CaptureFixture[str]) -> None:
        self._patch = patch
        self._capture = capture
        self.asked: list[tuple[str, str, Any]] = []
        self.answer: Answer = lambda *_: {}
        #: What a stream tells, each event under the number of its place, and then no more.
        self.events: list[dict[str, Any]] = []
        patch.setattr(Client, "__init__", lambda _: None)
        patch.setattr(Client, "get", lambda _, path, **params: self._answered("GET", path, params))
        patch.setattr(Client, "stream", lambda _, path, after, **params: self._told(path, after, params))
        patch.setattr(Client, "post", lambda _, path, body=None: self._answered("POST", path, body))
        patch.setattr(Client, "patch", lambda _, path, body: self._answered("PATCH", path, body))
        patch.setattr(Client, "delete", lambda _, path: self._answered("DELETE", path, None))

    def run(self, *argv: str) -> int:
        """Run `clawq …`; returns its exit code."""
        self._patch.setattr(sys, "argv", ["clawq", *argv])
        with pytest.raises(SystemExit) as ended:
            entry.main()
        return int(ended.value.code or 0)

    def shown(self) -> Any:
        """What was printed since."""
        return self._capture.readouterr()

    @contextmanager
    def _told(self, path: str, after: str | None, given: dict[str, str]) -> Iterator[Iterator[bytes] | None]:
        self.asked.append(("STREAM", path, given))
        news = list(enumerate(self.events, 1))[int(after or 0) :]
        frames = [f"id: {number}\nevent: event\ndata: {json.dumps(event)}\n\n".encode() for number, event in news]
        yield iter(frames) if frames else None

    def _answered(self, method: str, path: str, given: Any) -> Any:
        given = {k: v for k, v in given.items() if v is not None} if method == "GET" else given
        self.asked.append((method, path, given))
        return self.answer(method, path, given)
