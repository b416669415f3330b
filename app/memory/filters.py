"""Filters on metadata."""

from __future__ import annotations

from typing import Any


def compile_filter(filter: dict[str, Any], column: str = "m.metadata") -> tuple[str, dict[str, Any]]:
    """Stand-in."""
    import json

    return f"{column} @> CAST(:f_0 AS jsonb)", {"f_0": json.dumps(filter)}
