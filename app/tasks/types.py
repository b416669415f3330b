"""Task types: which queue runs each, whether it shares envelopes, and what its payload may hold."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue, RootModel, ValidationError, model_validator

from app.errors import Invalid, Problem
from app.queues import Queue

#: The most files a program may be given, and their bytes together.
MAX_FILES = 100
MAX_FILES_BYTES = 4 * 2**20

#: Echo is for canaries and benchmarks, and shares its worker's memory with a whole envelope.
MAX_ECHO_BYTES = 2**20

_Text = Annotated[str, Field(max_length=1_000_000)]
_Word = Annotated[str, Field(max_length=10_000)]


class EchoPayload(RootModel[dict[str, JsonValue]]):
    """Any JSON object of moderate size; it is the result."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if len(self.model_dump_json()) > MAX_ECHO_BYTES:
            raise ValueError(f"larger than {MAX_ECHO_BYTES} bytes")
        return self


class CodeLimits(BaseModel):
    """Bounds of a run, each within what one host can give."""

    model_config = ConfigDict(extra="forbid")

    wall_s: float = Field(60, gt=0, le=3600, description="Wall-clock seconds.")
    cpu_s: float = Field(60, gt=0, le=3600, description="CPU seconds.")
    memory_mb: int = Field(256, ge=16, le=4096, description="Memory and swap together, MiB.")
    pids: int = Field(64, ge=1, le=512, description="Processes and threads at once.")
    disk_mb: int = Field(64, ge=1, le=1024, description="Bytes written, MiB.")
    output_kb: int = Field(256, ge=1, le=4096, description="Kept of stdout and of stderr, KiB each.")


class Base64File(BaseModel):
    """A file whose content is not text."""

    model_config = ConfigDict(extra="forbid")

    base64: _Text


class CodePayload(BaseModel):
    """A program for the sandbox."""

    model_config = ConfigDict(extra="forbid")

    code: Annotated[str, Field(min_length=1, max_length=1_000_000)] | None = None
    argv: Annotated[list[_Word], Field(min_length=1, max_length=1000)] | None = None
    stdin: _Text = ""
    args: Annotated[list[_Word], Field(max_length=1000)] = []
    env: Annotated[dict[Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")], _Word], Field(max_length=100)] = {}
    files: Annotated[dict[str, _Text | Base64File], Field(max_length=MAX_FILES)] = {}
    limits: CodeLimits = CodeLimits()
    network: Literal[False] = Field(False, description="Programs have no network.")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.code is None) == (self.argv is None):
            raise ValueError("give exactly one of code and argv")
        for text in (*(self.argv or ()), *self.args, *self.env.values()):
            if "\0" in text:
                raise ValueError("arguments and environment cannot hold NUL")
        for name in self.files:
            _check_file_name(name)
            if over := next((str(p) for p in PurePosixPath(name).parents if str(p) in self.files), None):
                raise ValueError(f"files: {name[:80]!r} cannot lie under the file {over[:80]!r}")
        if sum(map(len, self.file_bytes().values())) > MAX_FILES_BYTES:
            raise ValueError(f"files are larger than {MAX_FILES_BYTES} bytes together")
        return self

    def file_bytes(self) -> dict[str, bytes]:
        """The files with their content decoded. Raises ValueError for bad base64."""
        try:
            return {
                name: content.encode() if isinstance(content, str) else base64.b64decode(content.base64, validate=True)
                for name, content in self.files.items()
            }
        except binascii.Error as exc:
            raise ValueError(f"files: not base64: {exc}") from None


def _check_file_name(name: str) -> None:
    path = PurePosixPath(name)
    plain = bool(path.parts) and str(path) == name and not path.is_absolute() and ".." not in path.parts
    if not plain or "\0" in name or len(name.encode()) > 255:
        raise ValueError(f"files: {name[:80]!r} is not a plain relative path")


@dataclass(frozen=True)
class TaskType:
    """What the system knows of a kind of work."""

    name: str
    payload: type[BaseModel]
    #: Where it runs unless it is assigned to an agent of a role that runs it too.
    queue: Queue
    #: Ends at once and needs no sandbox: many ids share an envelope.
    inline: bool
    #: Roles other than `queue` whose workers run it when an agent of theirs is named.
    roles: frozenset[str] = frozenset()


TASK_TYPES = {
    t.name: t
    for t in (
        TaskType("echo", EchoPayload, Queue.EXECUTION, inline=True, roles=frozenset(Queue)),
        TaskType("python", CodePayload, Queue.EXECUTION, inline=False),
        TaskType("shell", CodePayload, Queue.EXECUTION, inline=False),
    )
}


def check_payload(task_type: str, payload: Any) -> None:
    """Check a payload against its task type.

    Raises:
        Invalid: with a problem for each thing that is wrong, `loc` starting at "task_type" or "payload".
    """
    known = TASK_TYPES.get(task_type)
    if known is None:
        allowed = ", ".join(sorted(TASK_TYPES))
        raise Invalid("Unknown task type.", problems=[Problem(("task_type",), f"must be one of {allowed}")])
    try:
        known.payload.model_validate(payload)
    except ValidationError as exc:
        problems = [Problem(("payload", *e["loc"]), e["msg"]) for e in exc.errors(include_url=False)]
        raise Invalid("The payload does not fit the task type.", problems=problems) from None
