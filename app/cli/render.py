"""How commands speak: tables and colours for people, one JSON object for programs, one sentence when it fails."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from datetime import datetime
from io import TextIOWrapper
from typing import Any, TextIO

from rich.console import Console, RenderableType
from rich.live import Live
from rich.spinner import Spinner
from rich.text import Text

#: Results go to standard output, everything that is said about them to standard error.
out = Console(soft_wrap=True, highlight=False)
err = Console(stderr=True, soft_wrap=True, highlight=False)

_GAP = "  "

STATE_STYLES = {
    "running": "green",
    "active": "green",
    "received": "green",
    "sent": "cyan",
    "succeeded": "green",
    "ok": "green",
    "queued": "cyan",
    "pending": "cyan",
    "restarting": "yellow",
    "paused": "yellow",
    "skipped": "yellow",
    "cancelled": "yellow",
    "warn": "yellow",
    "stopped": "dim",
    "inactive": "dim",
    "closed": "dim",
    "failed": "red",
    "fail": "red",
}


def emit_json(value: Any) -> None:
    """Print one JSON value on one line."""
    # ASCII, for it is JSON on every terminal and in every locale.
    print(json.dumps(value), flush=True)


def prepare_streams() -> None:
    """Make the standard streams take whatever we print: a closed one, or one that speaks less than Unicode."""
    sys.stdin = sys.stdin or open(os.devnull)  # noqa: SIM115
    for name in ("stdout", "stderr"):
        stream: TextIO = getattr(sys, name) or open(os.devnull, "w")  # noqa: SIM115
        setattr(sys, name, stream)
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def live(picture: Callable[[], RenderableType]) -> Live:
    """Keeps a picture up to date on standard error, below what is printed, until the block ends."""
    # rich sends what is printed meanwhile to its own console. A file or a program must get its output itself.
    both = sys.stdout.isatty() and err.is_terminal
    return Live(get_renderable=picture, console=err, transient=True, refresh_per_second=8, redirect_stdout=both)


@contextmanager
def status(text: str) -> Iterator[Callable[[str], None]]:
    """A line that says what is going on, on a terminal only; yields what changes it."""
    spinner = Spinner("line" if err.options.ascii_only else "dots", Text(text), style="cyan")
    with live(lambda: spinner) if err.is_terminal else nullcontext():
        yield lambda text: spinner.update(text=Text(text))


def state(name: str) -> Text:
    """The name of a state in its colour."""
    return Text(name, style=STATE_STYLES.get(name, ""))


def minute(timestamp: str) -> str:
    """Month, day and time as the clock on the wall shows them."""
    return f"{datetime.fromisoformat(timestamp).astimezone():%m-%d %H:%M}"


def fields(thing: dict[str, Any]) -> None:
    """Print what is known of a thing, a line each; what is null is left out."""
    for name, value in thing.items():
        if value is not None:
            shown = json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list) else value
            out.print(Text(f"{name:<20} {one_line(shown)}"))


def more(page: dict[str, Any]) -> None:
    """Say that a list goes on, if it does."""
    if page["next_cursor"]:
        err.print("There are more: raise --limit, or filter.", style="dim")


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]], *, cut: bool = False) -> Text:
    """A plain table; cells are text, or a styled Text, and None is empty.

    Every cell is whole and on one line, so that ids can be copied however narrow the terminal is: rich's own table
    would cut or drop them. With `cut`, the last column ends where the terminal does; where there is none, nothing
    has to fit.
    """
    lines = [[Text(column, style="bold") for column in columns], *([_cell(cell) for cell in row] for row in rows)]
    widths = [max(cell.cell_len for cell in column) for column in zip(*lines, strict=True)]
    room = max(out.width - sum(widths[:-1]) - len(_GAP) * (len(widths) - 1), len(columns[-1]))
    for *cells, last in lines:
        if cut and out.is_terminal:
            last.truncate(room, overflow="ellipsis")
        for cell, width in zip(cells, widths, strict=False):
            cell.pad_right(width - cell.cell_len)
    return Text("\n", no_wrap=True, overflow="ignore").join(_line(cells) for cells in lines)


def _cell(value: Any) -> Text:
    if isinstance(value, Text):
        return value.copy()
    return Text(one_line("" if value is None else value))


def one_line(value: Any) -> str:
    """Text that cannot repaint the screen, as line ends and escape sequences in it would."""
    return "".join(c if c.isprintable() else " " for c in str(value))


def _line(cells: Sequence[Text]) -> Text:
    line = Text(_GAP).join(cells)
    line.rstrip()
    return line


def complain(sentence: str, details: Iterable[str] = ()) -> None:
    """Say on standard error what failed, in one sentence, and show the details that explain it."""
    err.print(Text("error: ", style="bold red") + Text(sentence))
    for line in details:
        err.print(Text(f"  {line}", style="dim"))
