"""What the standard library has too, without what its import costs: most of a cold start is imports.

This file is sent into the sandbox as source: standard library only, Python 3.8 and later.
"""

from __future__ import annotations

from _json import encode_basestring_ascii
from typing import Any


class suppress:
    """Go on after the block if it raises one of `errors`."""

    def __init__(self, *errors: type[BaseException]) -> None:
        self._errors = errors

    def __enter__(self) -> None: ...

    def __exit__(self, error: type[BaseException] | None, *_: Any) -> bool:
        return error is not None and issubclass(error, self._errors)


def to_json(value: Any) -> str:
    """JSON of None, truth values, finite numbers, text, and lists and objects of these; json itself takes 8 ms."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, str):
        text: str = encode_basestring_ascii(value)
        return text
    if isinstance(value, list):
        return f"[{', '.join(map(to_json, value))}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{to_json(name)}: {to_json(item)}" for name, item in value.items()) + "}"
    # The plus makes a number of one that has a name.
    return repr(+value)
