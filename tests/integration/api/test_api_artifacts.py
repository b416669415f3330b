"""Artifacts over HTTP: an owner's own, as attachments that no browser runs."""

from __future__ import annotations

import io
from collections.abc import Callable
from urllib.parse import quote

import pytest
from werkzeug.http import parse_options_header

from api.views.artifacts import _PIECE
from app.db import transaction
from app.tasks import artifacts
from tests.integration.api.conftest import Caller
from tests.support import SUCCEEDED, end, running


def left(*names: str, content: bytes = b"abc") -> str:
    """A task that has ended and left these files; returns its id."""
    ours = running()
    for name in names:
        with transaction() as db:
            assert artifacts.keep(db, ours.id, ours.attempt, name, io.BytesIO(content))
    end((ours, SUCCEEDED))
    return ours.id


def test_a_task_s_files_are_listed_by_name(ada: Caller) -> None:
    task_id = left("b", "a/b.txt")
    page = ada.get(f"/tasks/{task_id}/artifacts")
    assert [(item["name"], item["size"]) for item in page["items"]] == [("a/b.txt", 3), ("b", 3)]
    assert page["items"][0]["created_at"].endswith("Z")
    assert page["next_cursor"] is None
    assert ada.get(f"/tasks/{left()}/artifacts")["items"] == []


def test_a_file_is_an_attachment_that_no_browser_runs(ada: Caller) -> None:
    response = ada.call("GET", f"/tasks/{left('page.html', content=b'<script>')}/artifacts/page.html")
    assert (response.status_code, response.data) == (200, b"<script>")
    assert response.headers["Content-Type"] == "application/octet-stream"
    assert response.headers["Content-Disposition"] == 'attachment; filename="page.html"'
    assert response.headers["Content-Security-Policy"] == "sandbox; default-src 'none'"
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert response.headers["Content-Length"] == "8"


def test_a_head_says_how_large_it_is(ada: Caller) -> None:
    response = ada.call("HEAD", f"/tasks/{left('a')}/artifacts/a")
    assert (response.status_code, response.data, response.headers["Content-Length"]) == (200, b"", "3")


@pytest.mark.parametrize("size", [0, 1, _PIECE, _PIECE + 1, 2 * _PIECE])
def test_a_file_of_any_size_arrives_whole(ada: Caller, size: int) -> None:
    content = bytes(i % 251 for i in range(size))
    response = ada.call("GET", f"/tasks/{left('a', content=content)}/artifacts/a")
    assert response.data == content
    assert response.headers["Content-Length"] == str(size)


@pytest.mark.parametrize(
    ("name", "offered"),
    [
        ("a/b/c.txt", "c.txt"), ("two words", "two words"), ("é.txt", "é.txt"), ('q"u\\o.txt', 'q"u\\o.txt'),
        ("line\r\nSet-Cookie: a=b", "line\r\nSet-Cookie: a=b"), ("a%20b", "a%20b"), ("?x=1#y", "?x=1#y"),
        ("semi;filename=evil", "semi;filename=evil"), ("日本/語", "語"), ("..hidden", "..hidden"), ("'", "'"),
        ("*", "*"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("safe", ["", "/"])
def test_any_name_is_found_and_offered_as_its_last_part(ada: Caller, name: str, offered: str, safe: str) -> None:
    response = ada.call("GET", f"/tasks/{left(name)}/artifacts/{quote(name, safe=safe)}")
    assert (response.status_code, response.data) == (200, b"abc")
    kind, options = parse_options_header(response.headers["Content-Disposition"])
    assert (kind, options["filename"]) == ("attachment", offered)
    assert response.headers["Content-Disposition"].isascii()
    assert "Set-Cookie" not in response.headers


@pytest.mark.parametrize("name", ["none", "a/..", "../a", "%00", "a%00", "", "a/", "//a"])
def test_a_name_that_is_none_of_them_is_404(ada: Caller, name: str) -> None:
    assert ada.get(f"/tasks/{left('a')}/artifacts/{name}", 404)["code"] == "not_found"


def test_another_owner_s_files_are_404(ada: Caller, bob: Caller, admin: Caller, caller: Callable[..., Caller]) -> None:
    task_id = left("a")
    for path in (f"/tasks/{task_id}/artifacts", f"/tasks/{task_id}/artifacts/a"):
        assert bob.get(path, 404) == bob.get(path, 404) | {"detail": f"No task {task_id}."}
        for known in (ada, admin, caller("ada", "read")):
            assert known.call("GET", path).status_code == 200


def test_a_running_task_shows_no_files(ada: Caller) -> None:
    ours = running()
    with transaction() as db:
        assert artifacts.keep(db, ours.id, ours.attempt, "a", io.BytesIO(b"x"))
    assert ada.get(f"/tasks/{ours.id}/artifacts")["items"] == []
    ada.get(f"/tasks/{ours.id}/artifacts/a", 404)
