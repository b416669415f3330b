"""Lock: hold a workflow while it is changed. Whoever does holds its row before those of its tasks."""

from __future__ import annotations

from typing import Any

from sqlalchemy import text

from app.db import Db
from app.errors import NotFound

_LOCK = text("SELECT id, status, max_running, cancel_requested_at FROM workflows WHERE id = :id FOR NO KEY UPDATE")


def lock(db: Db, workflow_id: str) -> Any:
    """Its row: `id`, `status`, `max_running` and `cancel_requested_at`, held until commit. Raises NotFound."""
    row = db.execute(_LOCK, {"id": workflow_id}).one_or_none()
    if row is None:
        raise NotFound(f"No workflow {workflow_id}.")
    return row
