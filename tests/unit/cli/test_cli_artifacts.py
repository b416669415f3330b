from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import unquote

import pytest

from app.cli import main as entry
from tests.unit.cli.conftest import Cli, serving

#: Lets a task have these artifacts.
Have = Callable[..., None]


@pytest.fixture
def have(cli: Cli, environment: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Have]:
    """An API with one task, in an empty working directory."""
    files: dict[str, bytes] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            _, _, name = self.path.partition("/artifacts/")
            content = files.get(unquote(name))
            if not name:
                items = [{"name": n, "size": len(c), "created_at": "2030-01-01"} for n, c in files.items()]
                self._send(200, "application/json", json.dumps({"items": items, "next_cursor": None}).encode())
            elif content is not None:
                self._send(200, "application/octet-stream", content)
            else:
                self._send(404, "application/problem+json", b'{"detail": "No such artifact."}')

        def _send(self, status: int, kind: str, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    (tmp_path / "here").mkdir()
    environment.chdir(tmp_path / "here")
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        environment.setenv("CLAWQ_API_URL", f"http://127.0.0.1:{server.server_address[1]}")
        yield lambda **given: files.update({n: c.encode() for n, c in given.items()})
        server.shutdown()


@pytest.fixture
def says(environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run `clawq artifacts t …`; what it prints."""

    def run(*argv: str) -> str:
        environment.setattr(sys, "argv", ["clawq", "artifacts", "t", *argv])
        with pytest.raises(SystemExit) as ended:
            entry.main()
        shown = capsys.readouterr()
        assert ended.value.code in (0, None), shown.err
        return shown.out

    return run


def everything(top: Path) -> dict[str, str]:
    return {str(p.relative_to(top)): p.read_text() for p in sorted(top.rglob("*")) if p.is_file()}


def test_artifacts_are_listed(have: Have, says: Callable[..., str]) -> None:
    have(**{"a/b": "abc", "evil\x1b[2J": ""})
    head, *lines = says().splitlines()
    assert head.split() == ["bytes", "created", "name"]
    assert [line.split(maxsplit=2)[::2] for line in lines] == [["3", "a/b"], ["0", "evil [2J"]]
    assert [item["name"] for item in json.loads(says("--json"))["items"]] == ["a/b", "evil\x1b[2J"]
    assert everything(Path()) == {}


@pytest.mark.parametrize("name", ["plain", "sub/dir/plain", "../../plain", "/etc/plain"])
def test_a_download_lands_here_under_its_last_name(
    have: Have, says: Callable[..., str], tmp_path: Path, name: str
) -> None:
    have(**{name: "abc"})
    says(name)
    assert everything(tmp_path) == {"here/plain": "abc"}


def test_an_odd_name_is_asked_for_as_it_is(have: Have, says: Callable[..., str]) -> None:
    have(**{"é ?#%2F\n": "abc"})
    says("é ?#%2F\n", "-o", "x")
    assert everything(Path()) == {"x": "abc"}


@pytest.mark.parametrize("name", ["..", "a/..", ".", "a/"])
def test_a_name_without_a_last_name_needs_an_output(have: Have, cli: Cli, name: str) -> None:
    have(**{name: "abc"})
    assert "--output" in cli.refuses("artifacts", "t", name)


@pytest.mark.parametrize("name", ["", ".", ".."])
def test_a_name_that_leads_elsewhere_in_the_api_is_none(have: Have, cli: Cli, name: str) -> None:
    assert "names no artifact" in cli.refuses("artifacts", "t", name, "-o", "x")


def test_a_file_that_exists_is_overwritten_only_by_force(have: Have, cli: Cli, says: Callable[..., str]) -> None:
    have(a="new")
    Path("a").write_text("mine, and longer")
    for argv in (("a",), ("a", "-o", "a"), ("--all", ".")):
        assert "--force" in cli.refuses("artifacts", "t", *argv)
    assert Path("a").read_text() == "mine, and longer"
    says("a", "--force")
    assert Path("a").read_text() == "new"


def test_the_bytes_go_to_standard_output(have: Have, says: Callable[..., str]) -> None:
    have(a="é\0\n")
    assert says("a", "-o", "-") == "é\0\n"
    assert everything(Path()) == {}


def test_all_are_saved_below_a_directory(have: Have, says: Callable[..., str]) -> None:
    have(**{"a": "1", "sub/dir/b": "2", "é\n": "3", "..c": "4"})
    said = json.loads(says("--all", "to/here", "--json"))
    assert everything(Path("to/here")) == {"..c": "4", "a": "1", "sub/dir/b": "2", "é\n": "3"}
    assert {item["path"] for item in said["items"]} == {f"to/here/{n}" for n in ("a", "sub/dir/b", "é\n", "..c")}


@pytest.mark.parametrize("name", ["../evil", "/tmp/evil", "//evil", "a/../../evil", "a/..", "", ".", "link/evil"])
def test_a_name_that_leads_elsewhere_is_refused_before_anything_is_written(
    have: Have, cli: Cli, tmp_path: Path, name: str
) -> None:
    Path("to").mkdir()
    Path("to/link").symlink_to(tmp_path)
    have(good="1", **{name: "2"})
    assert "would not be saved below to" in cli.refuses("artifacts", "t", "--all", "to", "--force")
    assert everything(tmp_path) == {}


def test_a_link_in_the_place_of_a_file_is_not_followed(have: Have, cli: Cli, tmp_path: Path) -> None:
    have(a="1")
    Path("to").mkdir()
    Path("to/a").symlink_to(tmp_path / "elsewhere")
    for more in ((), ("--force",)):
        cli.refuses("artifacts", "t", "--all", "to", *more)
    assert everything(tmp_path) == {}


@pytest.mark.parametrize("argv", [("-o", "x"), ("a", "--all", "d")])
def test_what_does_not_fit_together_is_refused(have: Have, cli: Cli, argv: tuple[str, ...]) -> None:
    assert "Give NAME and --output, or --all alone" in cli.refuses("artifacts", "t", *argv)


def test_what_is_not_there_is_said(have: Have, cli: Cli) -> None:
    assert "No such artifact." in cli.refuses("artifacts", "t", "a")
    assert "not UTF-8 text" in cli.refuses("artifacts", "t", os.fsdecode(b"\xff"))
    assert everything(Path()) == {}


def test_bytes_of_something_else_are_not_saved(cli: Cli, environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with serving(lambda *_: (200, "<html>")) as url:
        environment.setenv("CLAWQ_API_URL", url)
        assert "not as clawq's API does" in cli.refuses("artifacts", "t", "a", "-o", str(tmp_path / "a"))
    assert everything(tmp_path) == {}
