from __future__ import annotations

import sys
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from rich.console import Console

from app.cli import render, stack
from app.local import control


def test_what_up_says_starts_on_a_line_of_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    class Terminal(StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setattr(render, "out", Console(force_terminal=True, color_system=None))
    monkeypatch.setattr(render, "err", Console(file=terminal, force_terminal=True, color_system=None))
    monkeypatch.setattr(control, "status", lambda _: control.Status(cast("Any", None), True, {}, ()))
    events = [{"event": "step", "text": "waiting"}, {"event": "ready", "api_url": "http://x", "home": str(tmp_path)}]
    starting = SimpleNamespace(home=None, events=lambda: iter(events))
    stack._follow(cast("Any", starting), background=True, as_json=False)
    before, _, _ = terminal.getvalue().partition("clawq is running.")
    # The line of the last step has been erased.
    assert before.endswith("\x1b[2K")
