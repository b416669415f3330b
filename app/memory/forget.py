"""Forget: remove memories, what they were, and what other tables keep of them; the index follows.

What Postgres' log and backups keep, and for how long, is told in docs/memory.md.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import text

from app.db import Db
from app.memory import outbox
from app.memory.wanted import Wanted

#: Memories in one transaction.
BATCH = 1000

# What was merged into one that goes says nearly the same, and goes with it.
_LOCK = text(
    """
    WITH RECURSIVE asked AS (
        SELECT id, task_id FROM memory WHERE id = ANY(:ids) AND owner = :owner
        UNION SELECT m.id, m.task_id FROM asked a JOIN memory m ON m.replaced_by = a.id AND m.status = 'merged'
    )
    SELECT m.id FROM memory m WHERE m.id IN (SELECT id FROM asked) ORDER BY m.id FOR UPDATE
    """
)
# What tasks that stored it were given: those that made it, and those that came upon it.
_SCRUB_TASKS = text(
    """
    UPDATE tasks SET payload = payload || '{"content": "(forgotten)", "metadata": null}'
    WHERE owner = :owner AND id IN (
        SELECT task_id FROM memory WHERE id = ANY(:ids)
        UNION SELECT id FROM tasks WHERE task_type = 'memory.store' AND result->>'id' = ANY(:ids)
    ) RETURNING id
    """
)
# Answers that repeated requests would get, of memories and of those tasks.
_SCRUB_ANSWERS = text(
    """
    UPDATE idempotency
    SET response = response || CASE WHEN response ? 'content' THEN CAST('{"content": "", "metadata": null}' AS jsonb)
                                    ELSE '{"payload": {}}' END
    WHERE owner = :owner AND response->>'id' = ANY(:ids) AND response ?| ARRAY['content', 'payload']
    """
)
_DELETE = text("DELETE FROM memory WHERE id = ANY(:ids)")
_EXPIRED = text(
    """
    SELECT owner, array_agg(id) AS ids FROM (
        SELECT owner, id FROM memory WHERE expires_at <= now() ORDER BY expires_at LIMIT :batch
    ) m GROUP BY owner
    """
)


def forget(db: Db, owner: str, ids: Sequence[str]) -> list[str]:
    """Forget these memories and what was merged into them.

    Returns:
        The ids of all that are gone now; others do not exist, or are another owner's.
    """
    outbox.hold(db)
    found: list[str] = []
    # Again, for what was merged into them before their rows were held.
    while (now := list(db.execute(_LOCK, {"ids": list(ids), "owner": owner}).scalars())) != found:
        found = now
    if found:
        tasks = list(db.execute(_SCRUB_TASKS, {"ids": found, "owner": owner}).scalars())
        db.execute(_SCRUB_ANSWERS, {"ids": [*found, *tasks], "owner": owner})
        # While the rows are there to be read.
        outbox.queue(db, found)
        db.execute(_DELETE, {"ids": found})
    return found


def forget_all(db: Db, wanted: Wanted, limit: int = BATCH) -> list[str]:
    """Forget up to `limit` of the memories that are wanted, oldest first; ids as of `forget`."""
    condition, params = wanted.where()
    asked = text(f"SELECT m.id FROM memory m WHERE {condition} ORDER BY m.created_at, m.id LIMIT :limit")  # noqa: S608
    return forget(db, wanted.owner, list(db.execute(asked, params | {"limit": limit}).scalars()))


def sweep(db: Db, batch: int = BATCH) -> int:
    """The clock's duty: forget a batch of what has expired; returns how many had."""
    found = db.execute(_EXPIRED, {"batch": batch}).all()
    for row in sorted(found):
        forget(db, row.owner, row.ids)
    return sum(len(row.ids) for row in found)
