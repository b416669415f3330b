"""Which JSON values Postgres can store."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from app.errors import Invalid, Problem


def check_storable(value: Any) -> None:
    """Check that `value`, parsed from JSON, fits in a jsonb column.

    Raises:
        Invalid: a string holds NUL or half a surrogate pair (jsonb has neither), or a number is NaN or infinite.
    """
    if problems := list(_problems(value, ())):
        raise Invalid("The JSON holds values that cannot be stored.", problems=problems)


def _problems(value: Any, loc: tuple[str | int, ...]) -> Iterator[Problem]:
    if isinstance(value, str):
        if "\0" in value or not _is_unicode(value):
            yield Problem(loc, "text cannot hold NUL or lone surrogates; send such bytes as base64")
    elif isinstance(value, float):
        if not math.isfinite(value):
            yield Problem(loc, "numbers must be finite")
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _problems(key, (*loc, "(key)"))
            yield from _problems(item, (*loc, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _problems(item, (*loc, index))


def _is_unicode(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
