"""`clawq memory export` and `import`: files of documents, a line each."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from io import BytesIO, TextIOWrapper
from pathlib import Path
from typing import Any

import pytest

from app.cli import memory_files
from app.cli.client import MAX_BODY_BYTES, ApiError
from app.errors import Problem
from tests.unit.cli.conftest import Cli
from tests.unit.cli.scripted import Scripted


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Scripted:
    """An API that takes every document."""
    scripted = Scripted(monkeypatch, capsys)
    scripted.answer = lambda _method, _path, body: {"items": [taken(d) for d in body["memories"]]}
    return scripted


def taken(document: dict[str, Any], **values: Any) -> dict[str, Any]:
    return {"id": document.get("id", "new"), "result": "created", "duplicate_of": None, "unlinked": False, **values}


def write(path: Path, documents: Iterable[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(document, ensure_ascii=False) + "\n" for document in documents))
    return str(path)


def sent(api: Scripted) -> list[list[str]]:
    """Ids in each request."""
    return [[document["id"] for document in body["memories"]] for _, _, body in api.asked]


def pages(api: Scripted) -> list[dict[str, Any]]:
    """Two pages of documents, that the API answers."""
    documents = [{"id": "a", "content": "é\n\u2028", "n": 1.1}, {"id": "b"}, {"id": "c"}]
    api.answer = lambda _method, _path, query: (
        {"items": documents[:2], "next_cursor": "x"}
        if "cursor" not in query
        else {"items": documents[2:], "next_cursor": None}
    )
    return documents


def test_an_export_is_a_document_a_line(api: Scripted, tmp_path: Path) -> None:
    documents = pages(api)
    file = tmp_path / "out.jsonl"
    assert api.run("memory", "export", str(file), "--user", "u") == 0
    assert [json.loads(line) for line in file.read_bytes().split(b"\n")[:-1]] == documents
    assert [query for _, _, query in api.asked] == [
        {"user_id": "u", "limit": 1000}, {"user_id": "u", "limit": 1000, "cursor": "x"},
    ]  # fmt: skip
    assert file.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [file]
    assert tuple(api.shown()) == ("", "Exported 3.\n")


def test_an_export_goes_to_standard_output(api: Scripted) -> None:
    documents = pages(api)
    assert api.run("memory", "export", "-", "--json") == 0
    assert [json.loads(line) for line in api.shown().out.split("\n")[:-1]] == documents


def test_a_file_that_exists_is_overwritten_on_demand_alone_and_whole(api: Scripted, tmp_path: Path) -> None:
    file = tmp_path / "out.jsonl"
    file.write_text("before")
    pages(api)
    assert api.run("memory", "export", str(file)) == 1
    assert "--force" in api.shown().err
    page = api.answer

    def broken(method: str, path: str, query: Any) -> Any:
        if "cursor" in query:
            raise ApiError("gone")
        return page(method, path, query)

    api.answer = broken
    assert api.run("memory", "export", str(file), "--force") == 1
    assert file.read_text() == "before"
    api.answer = page
    assert api.run("memory", "export", str(file), "--force", "--json") == 0
    assert len(file.read_bytes().splitlines()) == 3
    assert json.loads(api.shown().out) == {"exported": 3}
    assert list(tmp_path.iterdir()) == [file]


def test_a_device_stays_what_it_is(api: Scripted) -> None:
    pages(api)
    assert api.run("memory", "export", "/dev/null") == 0
    assert Path("/dev/null").is_char_device()


def test_an_import_sends_what_an_export_wrote(api: Scripted, tmp_path: Path) -> None:
    documents = [{"id": "a", "content": "é\n\u2028", "n": 1.1}, {"id": "b", "metadata": {"big": 2**70}}]
    assert api.run("memory", "import", write(tmp_path / "in", documents)) == 0
    assert api.asked == [("POST", "/memories/import", {"memories": documents})]
    assert api.shown().out == "Imported 2; 0 were here already.\n"


def test_standard_input_may_start_with_a_mark_and_hold_empty_lines(
    api: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", TextIOWrapper(BytesIO(b'\xef\xbb\xbf{"id": "a"}\r\n\n {"id": "b"}')))
    api.answer = lambda _method, _path, body: {
        "items": [taken(d, result="duplicate_of", duplicate_of=d["id"]) for d in body["memories"]]
    }
    assert api.run("memory", "import", "-", "--json") == 0
    assert sent(api) == [["a", "b"]]
    assert json.loads(api.shown().out) == {"created": 0, "duplicate_of": 2, "unlinked": 0}


def test_batches_are_bounded_by_number_and_by_bytes(
    api: Scripted, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(memory_files, "_MOST", 3)
    monkeypatch.setattr(memory_files, "_MOST_BYTES", 200)
    documents = [{"id": str(n), "content": "é" * size} for n, size in enumerate((1, 1, 1, 1, 60, 500, 1))]
    assert api.run("memory", "import", write(tmp_path / "in", documents)) == 0
    assert sent(api) == [["0", "1", "2"], ["3", "4"], ["5"], ["6"]]


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (b"{", "is not JSON"), (b"[]", "is no object"), (b'{"a": NaN}', "NaN"), (b'{"a": 1e999}', "is not JSON"),
        (b'"\xff"', "is not UTF-8 text"), (b'{"a": "\\ud800"}', "is not UTF-8 text"), (b"[" * 100_000, "is not JSON"),
        (b'"' + b"x" * MAX_BODY_BYTES + b'"', "16 MiB"), (b'{"a": "' + b"x" * (MAX_BODY_BYTES - 60) + b'"}', "16 MiB"),
    ],
    ids=lambda value: str(value)[:20],
)  # fmt: skip
def test_a_bad_line_is_named_before_anything_of_its_batch_is_sent(
    cli: Cli, tmp_path: Path, line: bytes, why: str
) -> None:
    (tmp_path / "in").write_bytes(b'{"id": "a"}\n\n' + line + b"\n")
    said = cli.refuses("memory", "import", str(tmp_path / "in"))
    assert "Line 3" in said
    assert why in said


def test_what_was_imported_before_a_bad_line_is_said(
    api: Scripted, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(memory_files, "_MOST", 2)
    (tmp_path / "in").write_text('{"id": "a"}\n{"id": "b"}\n{"id": "c"}\nx\n')
    assert api.run("memory", "import", str(tmp_path / "in")) == 1
    assert sent(api) == [["a", "b"]]
    assert "Imported before: 2." in api.shown().err


def test_what_the_api_refuses_is_named_by_its_line(api: Scripted, tmp_path: Path) -> None:
    def refuse(*_: Any) -> Any:
        raise ApiError("Not acceptable.", problems=[Problem(("memories", 1, "content"), "too long")])

    api.answer = refuse
    (tmp_path / "in").write_text('{"id": "a"}\n\n{"id": "b"}\n')
    assert api.run("memory", "import", str(tmp_path / "in")) == 1
    assert "line 3.content: too long" in api.shown().err


@pytest.mark.parametrize(("file", "why"), [("/tmp", "Is a directory"), ("/no/file", "No such file")])
def test_what_is_no_file_is_refused(cli: Cli, file: str, why: str) -> None:
    assert why in cli.refuses("memory", "import", file)


def test_what_came_before_what_replaces_it_is_linked_at_the_end(
    api: Scripted, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(memory_files, "_MOST", 1)
    here: set[str] = set()

    def answer(_method: str, _path: str, body: Any) -> Any:
        items = []
        for document in body["memories"]:
            # This one's id is somebody else's.
            here.add(name := {"new": "fresh"}.get(document["id"], document["id"]))
            items.append(taken(document, id=name, unlinked=document.get("replaced_by", name) not in here))
        return {"items": items}

    api.answer = answer
    documents = [
        {"id": "old", "replaced_by": "new", "history": ["long"], "version": 2}, {"id": "lost", "replaced_by": "gone"},
        {"id": "new"},
    ]  # fmt: skip
    assert api.run("memory", "import", write(tmp_path / "in", documents), "--json") == 0
    assert [body["memories"] for _, _, body in api.asked[3:]] == [
        [{"id": "old", "replaced_by": "fresh", "version": 2}], [{"id": "lost", "replaced_by": "gone"}],
    ]  # fmt: skip
    assert json.loads(api.shown().out) == {"created": 3, "duplicate_of": 0, "unlinked": 1}


def test_nothing_is_sent_twice_where_all_came_together(api: Scripted, tmp_path: Path) -> None:
    api.answer = lambda _method, _path, body: {"items": [taken(d, unlinked=True) for d in body["memories"]]}
    assert api.run("memory", "import", write(tmp_path / "in", [{"id": "old", "replaced_by": "gone"}])) == 0
    assert len(api.asked) == 1
    assert "1 refer to memories that are not here." in api.shown().err
