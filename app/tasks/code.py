"""Payloads of the task types that run a program, and what of them the operator's settings allow."""

from __future__ import annotations

import base64
import binascii
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from app.errors import Problem
from app.programs import MAX_WORDS_BYTES, CodeLimits, ImageName, NetworkName
from app.settings import settings

#: The most files a program may be given, and their bytes together.
MAX_FILES = 100
MAX_FILES_BYTES = 4 * 2**20
#: Where `code` goes, whatever the language.
_MAIN = ("main.py", "main.sh", "main.js")

_Text = Annotated[str, Field(max_length=1_000_000)]
_Word = Annotated[str, Field(max_length=10_000)]
_Argv = Annotated[list[_Word], Field(min_length=1, max_length=1000)]


class Base64File(BaseModel):
    """A file whose content is not text."""

    model_config = ConfigDict(extra="forbid")

    base64: _Text


class ProgramPayload(BaseModel):
    """What every program may be given."""

    model_config = ConfigDict(extra="forbid")

    argv: _Argv | None = None
    stdin: _Text = ""
    args: Annotated[list[_Word], Field(max_length=1000)] = []
    env: Annotated[dict[Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")], _Word], Field(max_length=100)] = {}
    files: Annotated[dict[str, _Text | Base64File], Field(max_length=MAX_FILES)] = {}
    limits: CodeLimits = CodeLimits()
    network: Literal[False] | NetworkName = Field(
        False, description="false: none. Or the name of a network that the operator allows."
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        words = (*(self.argv or ()), *self.args, *self.env, *self.env.values())
        if any("\0" in text for text in words):
            raise ValueError("arguments and environment cannot hold NUL")
        # Each takes one byte more, the NUL behind it.
        if sum(len(text.encode()) + 1 for text in words) > MAX_WORDS_BYTES:
            raise ValueError(f"argv, args and env are larger than {MAX_WORDS_BYTES} bytes together")
        for name in self.files:
            _check_file_name(name)
            if name == "out":
                raise ValueError("files: 'out' is the directory for artifacts; only names below it, as 'out/a', can be")
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

    def bounds(self) -> dict[str, Any]:
        """The limits of the run by name: as asked for, else the defaults, but no more than the operator's ceiling."""
        ceiling = settings().sandbox_ceiling
        return {
            name: value if name in self.limits.model_fields_set else min(value, ceiling.get(name, value))
            for name, value in self.limits
        }

    def refusals(self) -> list[Problem]:
        """What the operator's settings do not allow, `loc` starting at the payload's fields."""
        found = [
            Problem(("limits", name), f"at most {most:g} here")
            for name, most in settings().sandbox_ceiling.items()
            if name in self.limits.model_fields_set and getattr(self.limits, name) > most
        ]
        if self.network and self.network not in settings().sandbox_networks:
            allowed = ", ".join(("false", *settings().sandbox_networks))
            found.append(Problem(("network",), f"must be one of {allowed}"))
        return found


class CodePayload(ProgramPayload):
    """A program for the sandbox: code, or a command of the image."""

    code: Annotated[str, Field(min_length=1, max_length=1_000_000)] | None = None

    @model_validator(mode="after")
    def _check_code(self) -> Self:
        if (self.code is None) == (self.argv is None):
            raise ValueError("give exactly one of code and argv")
        taken = next((name for name in self.files if PurePosixPath(name).parts[0] in _MAIN), None)
        if self.code is not None and taken is not None:
            raise ValueError(
                f"files: {taken[:80]!r} is in the place of code; beside code, no name starts with {', '.join(_MAIN)}"
            )
        return self


class ContainerPayload(ProgramPayload):
    """A command of an image that the operator allows."""

    image: ImageName
    argv: _Argv

    def refusals(self) -> list[Problem]:
        """See `ProgramPayload.refusals`."""
        images = settings().sandbox_images
        if self.image in images:
            return super().refusals()
        sentence = f"must be one of {', '.join(images)}" if images else "no image is allowed here"
        return [Problem(("image",), sentence), *super().refusals()]


def _check_file_name(name: str) -> None:
    path = PurePosixPath(name)
    plain = bool(path.parts) and str(path) == name and not path.is_absolute() and ".." not in path.parts
    if not plain or "\0" in name or len(name.encode()) > 255:
        raise ValueError(f"files: {name[:80]!r} is not a plain relative path")
