"""The Procfile: one process a line, `name: command`."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from app.errors import SettingsError

_LINE = re.compile(r"(?P<name>[A-Za-z0-9_-]+):\s+(?P<command>\S.*)")
_VARIABLE = re.compile(
    r"\$(?:(?P<plain>[A-Za-z_][A-Za-z0-9_]*)|\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>[^}]*))?\})"
)


@dataclass(frozen=True)
class Line:
    """One process: its name, which is its role, and its command with the variables not yet filled in."""

    name: str
    command: str

    def argv(self, env: Mapping[str, str]) -> list[str]:
        """The command's words, with `$NAME`, `${NAME}` and `${NAME:-default}` from `env`. There is no shell."""
        return [_VARIABLE.sub(lambda found: _value(found, env), word) for word in shlex.split(self.command)]


def _value(found: re.Match[str], env: Mapping[str, str]) -> str:
    name = found["plain"] or found["name"]
    return env.get(name) or found["default"] or ""


def parse(text: str) -> list[Line]:
    """The lines of a Procfile.

    Raises:
        SettingsError: a line is malformed, or a name comes twice.
    """
    lines: list[Line] = []
    for number, raw in enumerate(text.splitlines(), start=1):
        stripped = raw.strip()
        if not stripped or stripped.startswith("#"):
            continue
        found = _LINE.fullmatch(stripped)
        if found is None:
            raise SettingsError(f"Procfile, line {number}: expected `name: command`.")
        if found["name"] in {line.name for line in lines}:
            raise SettingsError(f"Procfile, line {number}: {found['name']} is there twice.")
        lines.append(Line(found["name"], found["command"]))
    return lines


def read(path: Path) -> list[Line]:
    """The lines of the file.

    Raises:
        SettingsError: it is missing or malformed.
    """
    try:
        return parse(path.read_text(encoding="utf-8"))
    except OSError as exc:
        raise SettingsError(f"{path} cannot be read: {exc.strerror}.") from exc
