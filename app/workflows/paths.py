"""Paths into JSON values: `tasks.build.result.files[0]["any text"]`."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from app.errors import Invalid
from app.storable import check_storable

#: Characters of a path.
MAX_PATH = 1000

_INDEX = r"-?(?:0|[1-9][0-9]{0,8})"
_HEAD = re.compile(r"[A-Za-z0-9_-]+")
_PART = re.compile(rf'\.(?P<name>[A-Za-z0-9_-]+)|\[(?:(?P<index>{_INDEX})|(?P<text>"(?:[^"\\]|\\.)*"))\]', re.DOTALL)


class BadPath(ValueError):
    """This is no path; the message says where it stops being one."""


class Missing(LookupError):
    """The value has nothing at the path; the message says how far it leads."""


@dataclass(frozen=True)
class Path:
    """A path in its parts.

    Attributes:
        text: as written.
        parts: names, and the numbers that stood in brackets.
        ends: where in `text` each part ends.
    """

    text: str
    parts: tuple[str | int, ...]
    ends: tuple[int, ...]

    def upto(self, count: int) -> str:
        """The text of its first `count` parts."""
        return self.text[: self.ends[count - 1]] if count else "the value"


@lru_cache(maxsize=1024)
def parse(text: str) -> Path:
    """Read a path: a name, or a part in brackets, then any number of `.name`, `[0]`, `["any text"]`.

    Raises:
        BadPath: it is not written like that, or is too long.
    """
    if len(text) > MAX_PATH:
        raise BadPath(f"a path has at most {MAX_PATH} characters")
    parts: list[str | int] = []
    ends: list[int] = []
    at = 0
    if head := _HEAD.match(text):
        parts.append(head[0])
        ends.append(at := head.end())
    elif not text.startswith("["):
        raise BadPath("a path begins with a name or a bracket")
    while at < len(text):
        match = _PART.match(text, at)
        if not match:
            raise BadPath(f'not a path from character {at + 1} on: write .name, [0] or ["any text"]')
        parts.append(_part(match))
        ends.append(at := match.end())
    return Path(text, tuple(parts), tuple(ends))


def follow(value: Any, path: Path, start: int = 0) -> Any:
    """What lies in `value` at the parts of `path` from `start` on.

    Raises:
        Missing: nothing does.
    """
    for position in range(start, len(path.parts)):
        part = path.parts[position]
        if isinstance(value, dict) and part in value and isinstance(part, str):
            value = value[part]
        elif isinstance(value, list) and (index := _index(part)) is not None and -len(value) <= index < len(value):
            value = value[index]
        else:
            raise Missing(f"{path.text}: {path.upto(position)} {_lack(value, part)}")
    return value


def kind(value: Any) -> str:
    """What a JSON value is, in words."""
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    names = {str: "a text", int: "a number", float: "a number", list: "a list", dict: "an object"}
    return names.get(type(value), "no JSON value")


def _part(match: re.Match[str]) -> str | int:
    if match["index"]:
        return int(match["index"])
    if match["name"]:
        return match["name"]
    try:
        text = str(json.loads(match["text"], strict=False))
        check_storable(text)
    except ValueError as error:
        raise BadPath(f"{match['text']} is not written as a JSON text") from error
    except Invalid as error:
        raise BadPath(error.problems[0].msg) from error
    return text


def _index(part: str | int) -> int | None:
    """The place in a list that a part names; `.0` does as well as `[0]`."""
    if isinstance(part, int):
        return part
    return int(part) if re.fullmatch(_INDEX, part) else None


def _lack(value: Any, part: str | int) -> str:
    if isinstance(value, dict) and isinstance(part, str):
        return f"has no {json.dumps(part, ensure_ascii=False)}"
    if isinstance(value, list) and _index(part) is not None:
        return f"is a list of {len(value)}"
    return f"is {kind(value)}"
