from __future__ import annotations

from pathlib import Path

import pytest

from app.errors import SettingsError
from app.local import procfile
from app.local.plan import ROOT


def test_lines_keep_their_order_and_comments_and_blanks_are_skipped() -> None:
    lines = procfile.parse("# roles\n\nweb: run --web\n  clock:  beat\n")
    assert [(line.name, line.command) for line in lines] == [("web", "run --web"), ("clock", "beat")]


@pytest.mark.parametrize(
    ("command", "argv"),
    [
        ("bind :${PORT:-8080}", ["bind", ":9000"]),
        ("bind :${OTHER:-8080}", ["bind", ":8080"]),
        ("bind :${EMPTY:-8080}", ["bind", ":8080"]),
        ("log $PORT ${PORT} ${NONE}", ["log", "9000", "9000", ""]),
        ("serve 'api:create_app()' a\\ b", ["serve", "api:create_app()", "a b"]),
        ("say ${SPACED}", ["say", "two words"]),
        ("celery -n gateway@%h", ["celery", "-n", "gateway@%h"]),
    ],
)
def test_words_are_a_shells_without_a_shell(command: str, argv: list[str]) -> None:
    env = {"PORT": "9000", "EMPTY": "", "SPACED": "two words"}
    assert procfile.Line("x", command).argv(env) == argv


@pytest.mark.parametrize("text", ["nonsense", "web:", ": run", "web:run", "a b: run", "web: a\nweb: b"])
def test_a_wrong_line_is_named(text: str) -> None:
    with pytest.raises(SettingsError, match=r"Procfile, line \d"):
        procfile.parse(text)


def test_a_missing_file_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot be read: No such file"):
        procfile.read(tmp_path / "Procfile")


def test_the_project_s_procfile_has_the_roles_that_programs_rely_on() -> None:
    names = [line.name for line in procfile.read(ROOT / "Procfile")]
    assert {"api", "ws", "gateway", "coordinator", "execution", "memory", "clock", "flower"} <= set(names)
