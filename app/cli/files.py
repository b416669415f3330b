"""Files that the command line is given: bounded, and UTF-8 or refused in one sentence."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, BinaryIO

from app.cli.client import MAX_BODY_BYTES, TOO_LARGE
from app.documents import parse_yaml
from app.errors import Invalid

_YAML = (".yaml", ".yml")


def read(path: Path) -> str:
    """The text of a file. Raises Invalid."""
    try:
        with path.open("rb") as file:
            return _text(file, str(path))
    except (OSError, ValueError) as exc:
        raise Invalid(f"Cannot read {path}: {getattr(exc, 'strerror', None) or exc}.") from None


def read_stdin() -> str:
    """The text on standard input. Raises Invalid."""
    return _text(sys.stdin.buffer, "standard input")


def is_yaml(path: Path) -> bool:
    """Whether a file is YAML by its name."""
    return path.suffix.lower() in _YAML


def parse(text: str, name: str, *, yaml: bool) -> dict[str, Any]:
    """The object that a text in YAML or JSON says. Raises Invalid, which calls the text `name`."""
    try:
        value = parse_yaml(text) if yaml else json.loads(text)
    except (ValueError, RecursionError) as exc:
        raise Invalid(f"{name} is not JSON: {exc}.") from None
    except Invalid as exc:
        raise Invalid(f"{name}: {exc.detail}") from None
    if not isinstance(value, dict):
        raise Invalid(f"{name} is no object.")
    return value


def _text(file: BinaryIO, name: str) -> str:
    # One byte more shows that there is more; /dev/zero has no end.
    content = file.read(MAX_BODY_BYTES + 1)
    if len(content) > MAX_BODY_BYTES:
        raise Invalid(f"Cannot read {name}: it is {TOO_LARGE}.")
    try:
        # A mark of the byte order at its start says nothing.
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise Invalid(f"Cannot read {name}: it is not UTF-8 text.") from None
