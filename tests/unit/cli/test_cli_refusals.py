from __future__ import annotations

import os
import sys
from io import BytesIO, TextIOWrapper
from pathlib import Path

import pytest

from app.cli.client import MAX_BODY_BYTES
from tests.unit.cli.conftest import Cli, serving

BAD = os.fsdecode(b"a\xff")


@pytest.mark.parametrize("delay", ["nan", "inf", "-inf"])
def test_a_number_that_is_none_is_refused(cli: Cli, delay: str) -> None:
    assert "NaN" in cli.refuses("submit", "-c", "x", "--delay-s", delay)


@pytest.mark.parametrize("payload", ["NaN", '{"n": 1e999}', "[" * 100_000, "{"])
def test_a_payload_that_is_no_json_is_refused(cli: Cli, payload: str) -> None:
    assert "JSON" in cli.refuses("submit", "--type", "echo", "--payload", payload)


@pytest.mark.parametrize(
    "argv",
    [
        ("submit", "-c", BAD),
        ("submit", "-c", "x", "--description", BAD),
        ("submit", "-c", "x", "--arg", BAD),
        ("tasks", "--q", BAD),
        ("keys", "create", BAD),
    ],
)
def test_arguments_that_are_not_utf_8_are_refused(cli: Cli, argv: tuple[str, ...]) -> None:
    assert "not UTF-8 text" in cli.refuses(*argv)


def test_standard_input_that_is_not_utf_8_is_refused(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", TextIOWrapper(BytesIO(b"\xff"), encoding="utf-8", errors="surrogateescape"))
    assert "standard input: it is not UTF-8 text" in cli.refuses("submit", "-c", "x", "--stdin", "-")


def test_a_closed_standard_input_is_an_empty_one(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    assert "does not answer" in cli.refuses("submit", "-c", "x", "--stdin", "-")
    sys.stdin.close()


@pytest.mark.parametrize(
    ("content", "why"), [(b"\x7fELF\xff", "it is not UTF-8 text"), (b"#" * (MAX_BODY_BYTES + 1), "16 MiB")]
)
def test_a_file_that_is_no_program_is_refused(cli: Cli, tmp_path: Path, content: bytes, why: str) -> None:
    (tmp_path / "file").write_bytes(content)
    assert why in cli.refuses("submit", str(tmp_path / "file"))


@pytest.mark.parametrize(
    ("file", "why"), [("/tmp", "Is a directory"), ("/dev/zero", "16 MiB"), ("/no/file", "No such")]
)
def test_what_is_no_file_is_refused(cli: Cli, file: str, why: str) -> None:
    assert why in cli.refuses("submit", file)


def test_a_request_that_grows_too_large_is_refused(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "half").write_bytes(b"#" * (MAX_BODY_BYTES // 2))
    assert "16 MiB" in cli.refuses("submit", str(tmp_path / "half"), "--stdin", str(tmp_path / "half"))


@pytest.mark.parametrize("key", ["é", "a b", "a\nb"])
def test_a_key_that_is_none_is_refused_and_not_shown(cli: Cli, environment: pytest.MonkeyPatch, key: str) -> None:
    environment.setenv("CLAWQ_API_KEY", key)
    line = cli.refuses("tasks")
    assert "CLAWQ_API_KEY" in line
    assert key not in line


@pytest.mark.parametrize("url", ["http://[::", "api", "ftp://here", "http://h:port", "http://", "http://a b"])
def test_an_address_that_is_none_is_refused(cli: Cli, environment: pytest.MonkeyPatch, url: str) -> None:
    environment.setenv("CLAWQ_API_URL", url)
    assert f"CLAWQ_API_URL {url} " in cli.refuses("tasks")


@pytest.mark.parametrize("body", ["<html>", "[]", '"text"'])
def test_an_address_where_something_else_answers_is_said(cli: Cli, environment: pytest.MonkeyPatch, body: str) -> None:
    with serving(lambda *_: (200, body)) as url:
        environment.setenv("CLAWQ_API_URL", url)
        assert "not as clawq's API does" in cli.refuses("tasks")


def test_a_proxy_is_not_asked_for_the_stack_on_this_machine(
    environment: pytest.MonkeyPatch, cli: Cli, capsys: pytest.CaptureFixture[str]
) -> None:
    from app.cli.client import Client
    from app.local import home as homes
    from app.local import record
    from app.settings import settings

    environment.delenv("CLAWQ_API_URL")
    environment.delenv("NO_PROXY")
    environment.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    with serving(lambda *_: (200, '{"items": []}')) as url:
        record.write(homes.open_home(settings().home), "run", {"api_url": url}, [])
        assert Client().get("/tasks") == {"items": []}


@pytest.mark.parametrize("bad", ["", ".", "..", "../keys", "a/b", "a?b", "a#b", " "])
@pytest.mark.parametrize("command", [("show",), ("logs",), ("logs", "-f"), ("cancel",), ("keys", "revoke")])
def test_an_id_that_is_none_is_refused(cli: Cli, command: tuple[str, ...], bad: str) -> None:
    assert f"'{bad}' is no id" in cli.refuses(*command, bad)


def test_an_id_that_is_not_utf_8_is_refused(cli: Cli) -> None:
    assert "is no id" in cli.refuses("show", BAD)
