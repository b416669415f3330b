"""How commands speak: tables and colours for people, one JSON object for programs, one sentence when it fails."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

#: Results go to standard output, everything that is said about them to standard error.
out = Console(soft_wrap=True, highlight=False)
err = Console(stderr=True, soft_wrap=True, highlight=False)

STATE_STYLES = {
    "running": "green",
    "succeeded": "green",
    "ok": "green",
    "queued": "cyan",
    "pending": "cyan",
    "restarting": "yellow",
    "skipped": "yellow",
    "cancelled": "yellow",
    "warn": "yellow",
    "stopped": "dim",
    "failed": "red",
    "fail": "red",
}


def emit_json(value: Any) -> None:
    """Print one JSON value on one line."""
    print(json.dumps(value, ensure_ascii=False), flush=True)


def state(name: str) -> Text:
    """The name of a state in its colour."""
    return Text(name, style=STATE_STYLES.get(name, ""))


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> Table:
    """A plain table; cells are text, or anything that rich can render, and None is empty."""
    made = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        made.add_column(column)
    for row in rows:
        made.add_row(*(cell if isinstance(cell, Text) else "" if cell is None else Text(str(cell)) for cell in row))
    return made


def complain(sentence: str, details: Iterable[str] = ()) -> None:
    """Say on standard error what failed, in one sentence, and show the details that explain it."""
    err.print(Text("error: ", style="bold red") + Text(sentence))
    for line in details:
        err.print(Text(f"  {line}", style="dim"))
