"""`clawq artifacts`: list and download what a task's program left behind.

Names of artifacts are a program's own: they never decide alone where on this disk a file goes.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path, PurePosixPath
from typing import Annotated
from urllib.parse import quote

import typer
from rich.text import Text

from app.cli import render
from app.cli.client import Client, at
from app.errors import Conflict, Invalid

app = typer.Typer()


@app.command()
def artifacts(
    task_id: Annotated[str, typer.Argument(help="The id of a task.")],
    name: Annotated[str | None, typer.Argument(help="An artifact to download; default: list them.")] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Where to; - for standard output. Default: its last name.")
    ] = None,
    all_: Annotated[
        Path | None, typer.Option("--all", metavar="DIR", help="Download all below this directory.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite files that exist.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False,
) -> None:
    """List the files that a task's program left under /workspace/out, or download them."""
    if (output and name is None) or (all_ and name is not None):
        raise Invalid("Give NAME and --output, or --all alone.")
    client = Client()
    where = at("tasks", task_id, "artifacts")
    if name is not None:
        path = output or Path(_last(name))
        content = client.read(_one(where, name))
        if str(path) == "-" and output:
            _print(content)
            return
        saved = [_save(path, content, force)]
    elif all_ is not None:
        saved = _save_all(client, where, all_, force)
    else:
        _list(client, where, as_json)
        return
    if as_json:
        render.emit_json({"items": [{"path": str(path)} for path in saved]})
        return
    for path in saved:
        render.err.print(Text(f"Saved {render.one_line(path)}"))


def _list(client: Client, where: str, as_json: bool) -> None:
    page = client.get(where)
    if as_json:
        return render.emit_json(page)
    rows = ((item["size"], item["created_at"], item["name"]) for item in page["items"])
    render.out.print(render.table(("bytes", "created", "name"), rows))


def _save_all(client: Client, where: str, directory: Path, force: bool) -> list[Path]:
    names = [item["name"] for item in client.get(where)["items"]]
    # All are looked at before the first is written.
    paths = [_below(directory, name) for name in names]
    for name, path in zip(names, paths, strict=True):
        content = client.read(_one(where, name))
        path.parent.mkdir(parents=True, exist_ok=True)
        _save(path, content, force)
    return paths


def _one(where: str, name: str) -> str:
    if name in ("", ".", ".."):
        raise Invalid(f"{name!r} names no artifact.")
    try:
        return f"{where}/{quote(name, safe='')}"
    except UnicodeEncodeError:
        raise Invalid("The name is not UTF-8 text.") from None


def _last(name: str) -> str:
    last = name.rpartition("/")[2]
    if last in ("", ".", "..") or "\0" in last:
        raise Invalid(f"{name!r} names no file: say where to with --output.")
    return last


def _below(directory: Path, name: str) -> Path:
    """Where an artifact goes below a directory. Raises Invalid if that is not below it."""
    parts = PurePosixPath(name).parts
    path = directory.joinpath(*parts)
    odd = not parts or "/" in parts or ".." in parts or "\0" in name
    if odd or not path.parent.resolve().is_relative_to(directory.resolve()):
        raise Invalid(f"The artifact {name!r} would not be saved below {directory}.")
    return path


def _save(path: Path, content: bytes, force: bool) -> Path:
    # A link in the last place is not followed: it may lead anywhere.
    flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | (os.O_TRUNC if force else os.O_EXCL)
    try:
        file = os.open(path, flags, 0o666)
    except FileExistsError:
        raise Conflict(f"{path} exists: give --force to overwrite it.") from None
    with os.fdopen(file, "wb") as opened:
        opened.write(content)
    return path


def _print(content: bytes) -> None:
    sys.stdout.buffer.write(content)
    sys.stdout.buffer.flush()
