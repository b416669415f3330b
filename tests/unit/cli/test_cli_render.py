from __future__ import annotations

from io import StringIO

import pytest
from rich.console import Console
from rich.text import Text

from app.cli import render

ID = "01a204fd-fab3-7441-a5a5-0123456789ab"
COLUMNS = ("id", "status", "description")


def shown(monkeypatch: pytest.MonkeyPatch, *row: object, width: int, terminal: bool, cut: bool = True) -> list[str]:
    out = Console(file=StringIO(), width=width, force_terminal=terminal, color_system=None, soft_wrap=True)
    monkeypatch.setattr(render, "out", out)
    out.print(render.table(COLUMNS, [row], cut=cut))
    return out.file.getvalue().splitlines()


@pytest.mark.parametrize("terminal", [True, False])
def test_an_id_is_whole_however_narrow_the_terminal_is(monkeypatch: pytest.MonkeyPatch, terminal: bool) -> None:
    head, line = shown(monkeypatch, ID, Text("running"), "what it is", width=20, terminal=terminal)
    assert line.startswith(f"{ID}  running  what it is"[:56])
    assert head.split() == list(COLUMNS)


def test_the_last_column_ends_where_the_terminal_does(monkeypatch: pytest.MonkeyPatch) -> None:
    _, line = shown(monkeypatch, ID, "running", "word " * 40, width=80, terminal=True)
    assert len(line) == 80
    assert line.endswith("…")


@pytest.mark.parametrize(("terminal", "cut"), [(False, True), (True, False)])
def test_a_program_and_a_list_of_keys_get_every_column_whole(
    monkeypatch: pytest.MonkeyPatch, terminal: bool, cut: bool
) -> None:
    _, line = shown(monkeypatch, ID, "running", "x" * 500, width=80, terminal=terminal, cut=cut)
    assert line == f"{ID}  running  {'x' * 500}"


def test_columns_line_up_and_end_without_blanks(monkeypatch: pytest.MonkeyPatch) -> None:
    assert shown(monkeypatch, "é", "日本", None, width=80, terminal=False) == ["id  status  description", "é   日本"]


def test_a_cell_is_one_line_and_speaks_no_terminal_s_language(monkeypatch: pytest.MonkeyPatch) -> None:
    _, line = shown(monkeypatch, ID, "running", "a\nb\x1b[2Jc\td", width=80, terminal=True)
    assert line == f"{ID}  running  a b [2Jc d"


def test_no_rows_are_a_heading(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(render, "out", Console(file=StringIO(), width=80))
    assert render.table(COLUMNS, []).plain == "id  status  description"
