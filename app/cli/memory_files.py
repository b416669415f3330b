"""`clawq memory export` and `import`: memories as JSONL, one document a line."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, BinaryIO

import typer

from app.cli import render
from app.cli.client import MAX_BODY_BYTES, TOO_LARGE, ApiError, Client
from app.errors import Conflict, Invalid, Problem

app = typer.Typer()

Json = dict[str, Any]
AsJson = Annotated[bool, typer.Option("--json", help="Print what was done as JSON, for programs.")]

#: Documents in one request, and their bytes; one document may be as large as a request.
_MOST, _MOST_BYTES = 1000, MAX_BODY_BYTES // 4
#: What a request holds besides its documents.
_FRAME_BYTES = 100


@app.command("export")
def export(
    file: Annotated[Path, typer.Argument(help="Where to; - for standard output.")],
    kind: Annotated[str | None, typer.Option("--type", help="Only memories of this type.")] = None,
    agent: Annotated[str | None, typer.Option("--agent", help="Only those of this agent.")] = None,
    session: Annotated[str | None, typer.Option("--session", help="Only those of this session.")] = None,
    user: Annotated[str | None, typer.Option("--user", help="Only those about this user.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite a file that exists.")] = False,
    as_json: AsJson = False,
) -> None:
    """Write all memories to a file, whole: with their history, links and uses."""
    client, count, cursor = Client(), 0, None
    scope = {"memory_type": kind, "agent_id": agent, "session_id": session, "user_id": user}
    with _written(file, force) as out, render.status("exporting") as say:
        while True:
            page = client.get("/memories/export", **scope, cursor=cursor, limit=_MOST)
            for document in page["items"]:
                out.write(json.dumps(document, ensure_ascii=False).encode() + b"\n")
            count += len(page["items"])
            say(f"{count} memories")
            if (cursor := page["next_cursor"]) is None:
                break
    if as_json and str(file) != "-":
        return render.emit_json({"exported": count})
    render.err.print(f"Exported {count}.", style="dim")


@app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(help="What `export` wrote; - for standard input.")], as_json: AsJson = False
) -> None:
    """Import memories from a file. What is here already stays as it is, so it can be done again."""
    with _read(file) as lines, tempfile.TemporaryFile() as later, render.status("importing") as say:
        work = _Import(Client(), later, say)
        for batch in _batches(lines, str(file), work):
            work.send(batch)
        work.link()
    done = {"created": work.counts["created"], "duplicate_of": work.counts["duplicate_of"], "unlinked": work.unlinked}
    if as_json:
        return render.emit_json(done)
    render.out.print(f"Imported {done['created']}; {done['duplicate_of']} were here already.")
    if work.unlinked:
        render.err.print(f"{work.unlinked} refer to memories that are not here.", style="yellow")


class _Import:
    """Sends documents, and at last those once more whose link led to what came later."""

    def __init__(self, client: Client, later: BinaryIO, say: Callable[[str], None]) -> None:
        self.counts: Counter[str] = Counter()
        self.unlinked = 0
        self._client = client
        self._later = later
        self._say = say
        self._batches = 0
        #: Ids of documents that other memories hold now.
        self._new_ids: dict[str, str] = {}

    def send(self, batch: list[tuple[int, Json]]) -> None:
        """Import documents, given with the numbers of their lines. Raises ApiError, which names those."""
        told = self._post(batch)
        self._batches += 1
        for (number, document), item in zip(batch, told, strict=True):
            self.counts[item["result"]] += 1
            if document.get("id") not in (None, item["id"]):
                self._new_ids[document["id"]] = item["id"]
            if item["unlinked"]:
                self.unlinked += 1
                # It is here now, so what it was before is not asked for again.
                again = {k: v for k, v in document.items() if k != "history"} | {"id": item["id"]}
                self._later.write(json.dumps([number, again]).encode() + b"\n")
        self._say(f"{self.counts.total()} memories")

    def link(self) -> None:
        """Link what could not be linked at first."""
        if not self.unlinked or (self._batches == 1 and not self._new_ids):
            return
        self._say("linking")
        self._later.seek(0)
        self.unlinked = 0
        batch: list[tuple[int, Json]] = []
        size = 0
        for line in self._later:
            if batch and (len(batch) == _MOST or size + len(line) > _MOST_BYTES):
                self._link(batch)
                batch, size = [], 0
            number, document = json.loads(line)
            target = document["replaced_by"]
            batch.append((number, document | {"replaced_by": self._new_ids.get(target, target)}))
            size += len(line)
        self._link(batch)

    def _link(self, batch: list[tuple[int, Json]]) -> None:
        self.unlinked += sum(item["unlinked"] for item in self._post(batch))

    def _post(self, batch: list[tuple[int, Json]]) -> list[Json]:
        try:
            told = self._client.post("/memories/import", {"memories": [document for _, document in batch]})
        except ApiError as exc:
            problems = [_by_line(problem, batch) for problem in exc.problems]
            raise ApiError(f"{exc.detail}{self.so_far()}", problems=problems) from exc
        items: list[Json] = told["items"]
        return items

    def so_far(self) -> str:
        """What has been done before something failed, as a sentence to be added."""
        return f" Imported before: {self.counts.total()}." if self._batches else ""


def _by_line(problem: Problem, batch: list[tuple[int, Json]]) -> Problem:
    match problem.loc:
        case ("memories", int(place), *rest) if place < len(batch):
            return Problem((f"line {batch[place][0]}", *rest), problem.msg)
    return problem


def _batches(lines: BinaryIO, name: str, work: _Import) -> Iterator[list[tuple[int, Json]]]:
    batch: list[tuple[int, Json]] = []
    size = number = 0
    # A byte more shows that there is more; /dev/zero has no end.
    while line := lines.readline(MAX_BODY_BYTES + 1):
        number += 1
        if not line.strip():
            continue
        try:
            document, weight = _document(line)
        except ValueError as exc:
            raise Invalid(f"Line {number} of {name} {exc}.{work.so_far()}") from None
        if batch and (len(batch) == _MOST or size + weight > _MOST_BYTES):
            yield batch
            batch, size = [], 0
        batch.append((number, document))
        size += weight
    if batch:
        yield batch


def _document(line: bytes) -> tuple[Json, int]:
    """The object on a line, and its bytes in a request. Raises ValueError, which says what is wrong with the line."""
    if len(line) > MAX_BODY_BYTES:
        raise ValueError(f"is {TOO_LARGE}")
    try:
        document = json.loads(line.decode("utf-8-sig"), parse_constant=_refuse)
        weight = len(json.dumps(document, ensure_ascii=False, allow_nan=False).encode())
    except UnicodeError:
        raise ValueError("is not UTF-8 text") from None
    except (ValueError, RecursionError) as exc:
        raise ValueError(f"is not JSON: {exc}") from None
    if not isinstance(document, dict):
        raise ValueError("is no object")
    if weight + _FRAME_BYTES > MAX_BODY_BYTES:
        raise ValueError(f"is {TOO_LARGE}")
    return document, weight


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no number in it")


@contextmanager
def _read(file: Path) -> Iterator[BinaryIO]:
    if str(file) == "-":
        yield sys.stdin.buffer
        return
    try:
        opened = file.open("rb")
    except (OSError, ValueError) as exc:
        raise Invalid(f"Cannot read {file}: {getattr(exc, 'strerror', None) or exc}.") from None
    with opened:
        yield opened


@contextmanager
def _written(file: Path, force: bool) -> Iterator[BinaryIO]:
    """A file that is there once it is whole, and for its owner's eyes only; standard output as it comes."""
    if str(file) == "-":
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    if file.exists() and not file.is_file():
        with file.open("wb") as special:
            yield special
        return
    if file.exists() and not force:
        raise Conflict(f"{file} exists: give --force to overwrite it.")
    handle, part = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name[:100]}.")
    try:
        with os.fdopen(handle, "wb") as opened:
            yield opened
        os.replace(part, file)
    except BaseException:
        os.unlink(part)
        raise
