"""Artifacts of a task: list and read."""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import quote

from flask import Response
from sqlalchemy.orm import Session

from api.endpoints import Reply, Section
from api.payloads.tasks import ArtifactOut, ArtifactPage
from app.db import single
from app.keys import Caller
from app.tasks import artifacts, find

section = Section("Tasks")

#: Bytes that a request holds of a file at a time, however slowly its client reads.
_PIECE = 512 * 1024
#: Names that need no care in a quoted string.
_PLAIN = re.compile(r"[A-Za-z0-9 !#$&'()+,.;=@\[\]^_`{}~-]+")


@section.route("GET", "/tasks/<task_id>/artifacts", scope="read", answers={200: ArtifactPage})
def list_artifacts(db: Session, caller: Caller, task_id: str) -> Reply:
    """List the files that a task's newest try left under /workspace/out, by name; none before it has ended."""
    find.get(db, task_id, caller.sees)
    return Reply(ArtifactPage(items=[ArtifactOut.model_validate(kept) for kept in artifacts.listing(db, task_id)]))


@section.route(
    "GET",
    "/tasks/<task_id>/artifacts/<path:name>",
    scope="read",
    answers={200: None},
    media_type="application/octet-stream",
)
def read_artifact(db: Session, caller: Caller, task_id: str, name: str) -> Response:
    """Read one of them.

    The name may hold slashes, as they are or as %2F. It is always an attachment of plain bytes: a program wrote it.
    """
    find.get(db, task_id, caller.sees)
    kept = artifacts.get(db, task_id, name)
    headers = {
        "Content-Length": str(kept.size),
        "Content-Disposition": attachment(kept.name),
        # A browser that shows it all the same gives it no origin, no scripts and no network.
        "Content-Security-Policy": "sandbox; default-src 'none'",
    }
    return Response(_pieces(kept), headers=headers, content_type="application/octet-stream")


def attachment(name: str) -> str:
    """The Content-Disposition (RFC 6266) that offers a file's last name, whatever is in it."""
    last = name.rpartition("/")[2]
    if _PLAIN.fullmatch(last):
        return f'attachment; filename="{last}"'
    # For clients that know no filename*; it must not hold what ends or escapes a quoted string.
    plain = "".join(c if _PLAIN.fullmatch(c) else "_" for c in last)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(last, safe='')}"


def _pieces(kept: artifacts.Kept) -> Iterator[bytes]:
    """The content. If it goes meanwhile the answer breaks off, shorter than its Content-Length."""
    for start in range(0, kept.size, _PIECE):
        with single() as db:
            content = artifacts.piece(db, kept, start, _PIECE)
        yield content
