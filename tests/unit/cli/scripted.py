"""The command line against an API that answers what a test says."""

from __future__ import annotations

import sys
from collections.abc import Callable
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
        patch.setattr(Client, "__init__", lambda _: None)
        patch.setattr(Client, "get", lambda _, path, **params: self._answered("GET", path, params))
        patch.setattr(Client, "post", lambda _, path, body=None: self._answered("POST", path, body))

    def run(self, *argv: str) -> int:
        """Run `clawq …`; returns its exit code."""
        self._patch.setattr(sys, "argv", ["clawq", *argv])
        with pytest.raises(SystemExit) as ended:
            entry.main()
        return int(ended.value.code or 0)

    def shown(self) -> Any:
        """What was printed since."""
        return self._capture.readouterr()

    def _answered(self, method: str, path: str, given: Any) -> Any:
        given = {k: v for k, v in given.items() if v is not None} if method == "GET" else given
        self.asked.append((method, path, given))
        return self.answer(method, path, given)
