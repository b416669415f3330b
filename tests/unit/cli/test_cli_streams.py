from __future__ import annotations

import json
import sys
from io import BytesIO, StringIO, TextIOWrapper

import pytest
from rich.console import Console

from app.cli import main as entry
from app.cli import render
from tests.unit.cli.conftest import Cli, serving


def test_a_file_gets_its_output_while_the_terminal_shows_a_spinner(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(render, "err", Console(file=StringIO(), force_terminal=True))
    monkeypatch.setattr(sys, "stdout", file := StringIO())
    with render.status("running"):
        print("42")
    assert file.getvalue() == "42\n"


def test_a_terminal_without_unicode_gets_what_it_can_show(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = BytesIO()
    monkeypatch.setattr(sys, "stdout", TextIOWrapper(shown, encoding="ascii"))
    render.prepare_streams()
    sys.stdout.write("é\udcff\n")
    render.emit_json({"name": "é\udcff"})
    first, second = shown.getvalue().splitlines()
    assert first == rb"\xe9\udcff"
    assert json.loads(second) == {"name": "é\udcff"}


def test_closed_streams_are_no_obstacle(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("stdin", "stdout", "stderr"):
        monkeypatch.setattr(sys, name, None)
    render.prepare_streams()
    opened = (sys.stdin, sys.stdout, sys.stderr)
    print("nobody reads this")
    for stream in opened:
        stream.close()


def test_who_stops_waiting_is_told_that_the_task_goes_on(
    cli: Cli, environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    environment.setattr("app.cli.stream.follow", interrupted)
    environment.setattr(sys, "argv", ["clawq", "submit", "-c", "x", "--wait"])
    with serving(lambda *_: (201, '{"id": "some-id"}')) as url:
        environment.setenv("CLAWQ_API_URL", url)
        with pytest.raises(SystemExit) as ended:
            entry.main()
    assert ended.value.code == 130
    said = capsys.readouterr().err
    assert "goes on" in said
    assert "clawq cancel some-id" in said
