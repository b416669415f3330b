"""Which task type `clawq submit` makes of a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from app.cli import main as entry
from app.cli.client import Client


@pytest.mark.parametrize(
    ("name", "given", "task_type"),
    [
        ("job.py", (), "python"), ("job", (), "python"), ("job.sh", (), "shell"), ("job.js", (), "javascript"),
        ("job.js", ("--type", "shell"), "shell"),
    ],
)  # fmt: skip
def test_the_ending_of_a_program_says_its_type_unless_it_is_given(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, given: tuple[str, ...], task_type: str
) -> None:
    posted: list[dict[str, Any]] = []
    monkeypatch.setattr(Client, "__init__", lambda _: None)
    monkeypatch.setattr(Client, "post", lambda _, path, body: posted.append(body) or {"id": "t"})
    (tmp_path / name).write_text("1")
    monkeypatch.setattr("sys.argv", ["clawq", "submit", str(tmp_path / name), *given])
    with pytest.raises(SystemExit) as ended:
        entry.main()
    assert not ended.value.code
    assert [body["task_type"] for body in posted] == [task_type]
