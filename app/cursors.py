"""Cursors: opaque keyset positions in lists that run from the newest to the oldest."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Select, tuple_

from app.errors import Invalid, Problem
from app.storable import check_storable


def after(query: Select[Any], created_at: Any, row_id: Any, cursor: str | None, limit: int) -> Select[Any]:
    """Order `query` newest first, start behind `cursor`, and ask for one row more than `limit`, to see what is left.

    Raises:
        Invalid: the cursor is not one of ours.
    """
    if cursor is not None:
        query = query.where(tuple_(created_at, row_id) < _position(cursor))
    return query.order_by(created_at.desc(), row_id.desc()).limit(limit + 1)


def page(rows: list[Any], limit: int) -> tuple[list[Any], str | None]:
    """Cut the rows of an `after` query to a page and the cursor of the next one, None at the end."""
    if len(rows) <= limit:
        return rows, None
    last = rows[limit - 1]
    reached = json.dumps([last.created_at.isoformat(), last.id])
    return rows[:limit], base64.urlsafe_b64encode(reached.encode()).decode()


def narrowed(condition: str, params: dict[str, Any], cursor: str | None) -> tuple[str, dict[str, Any]]:
    """A condition in SQL on `m`, and its parameters, that also starts behind `cursor`; Invalid as of `after`."""
    if cursor is None:
        return condition, params
    created_at, last_id = _position(cursor)
    behind = "(m.created_at, m.id) < (:cursor_at, :cursor_id)"
    return f"{condition} AND {behind}", params | {"cursor_at": created_at, "cursor_id": last_id}


def _position(cursor: str) -> tuple[datetime, str]:
    try:
        at, last_id = json.loads(base64.urlsafe_b64decode(cursor.encode()))
        found = (datetime.fromisoformat(at).astimezone(UTC), str(last_id))
        check_storable(last_id)
    except (ValueError, TypeError, OverflowError, RecursionError, Invalid):
        raise Invalid(
            "The cursor is not valid.", problems=[Problem(("cursor",), "take next_cursor as it is")]
        ) from None
    return found
