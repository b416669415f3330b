"""Retry: what follows a failed attempt (pure), and the retry that a person asks for."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

from sqlalchemy import text
from sqlalchemy.orm import Session

from app import publisher
from app.db import after_commit
from app.errors import Conflict
from app.tasks.claim import Claim
from app.workflows.reopen import reopen, replace_payload
from schema.tasks import TaskStatus

#: Lost workers and sandbox faults that a task survives in one round; the next one fails it.
MAX_INFRA_FAILURES = 3
_FIRST_DELAY_S = 1.0
_FACTOR = 2.0
_LONGEST_DELAY_S = 300.0


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How an attempt ended, as the worker saw it."""

    #: `infra`: our fault, not the program's. `handed_back`: the worker is leaving, nobody failed.
    kind: Literal["succeeded", "failed", "infra", "cancelled", "handed_back"]
    result: dict[str, Any] | None = None
    #: One sentence for people.
    error: str | None = None
    #: False for failures that another try cannot mend, such as a passed deadline.
    retryable: bool = True


@dataclass(frozen=True, kw_only=True)
class Settlement:
    """What an outcome makes of its task."""

    status: TaskStatus
    failures: int
    infra_failures: int
    #: Seconds before the next attempt, where status is pending.
    delay_s: float = 0


def settle(claim: Claim, outcome: Outcome) -> Settlement:
    """Decide between the end and another attempt. Pure but for the jitter."""
    failures = claim.failures + (outcome.kind == "failed")
    infra_failures = claim.infra_failures + (outcome.kind == "infra")
    status, delay_s = TaskStatus.PENDING, 0.0
    if outcome.kind == "succeeded":
        status = TaskStatus.SUCCEEDED
    elif outcome.kind == "cancelled":
        status = TaskStatus.CANCELLED
    elif outcome.kind != "handed_back":
        again = outcome.retryable and failures < claim.max_attempts and infra_failures < MAX_INFRA_FAILURES
        status = TaskStatus.PENDING if again else TaskStatus.FAILED
        delay_s = backoff_s(failures + infra_failures, claim.retry or {}) if again else 0.0
    return Settlement(status=status, failures=failures, infra_failures=infra_failures, delay_s=delay_s)


def backoff_s(failures: int, policy: Mapping[str, float] = MappingProxyType({})) -> float:
    """Seconds to wait after the `failures`-th failure: 1, 2, 4 … 300, each ± 20% so that a crowd spreads out.

    Args:
        failures: from 1.
        policy: `delay_s`, `factor` and `max_delay_s` in place of 1, 2 and 300.
    """
    # A float would overflow at 2¹⁰²⁴, and long before that the longest delay holds.
    growth = policy.get("factor", _FACTOR) ** min(failures - 1, 60)
    delay_s = min(policy.get("delay_s", _FIRST_DELAY_S) * growth, policy.get("max_delay_s", _LONGEST_DELAY_S))
    return delay_s * random.uniform(0.8, 1.2)  # noqa: S311


# FOR SHARE: a parent cannot end between our look at it and our commit; it would pass over a child that has ended.
_RETRY = text(
    """
    WITH parents AS (
        SELECT p.status FROM edges e JOIN tasks p ON p.id = e.parent_id
        WHERE e.child_id = :id ORDER BY p.id FOR SHARE OF p
    ), u AS (
        UPDATE tasks SET
            status = 'pending', round = round + 1, failures = 0, infra_failures = 0, progress = 0, result = NULL,
            error = NULL, completed_at = NULL, cancel_requested_at = NULL, available_at = now(),
            payload = coalesce(CAST(:payload AS jsonb), payload),
            -- A deadline that has passed would end the new round at once.
            deadline = CASE WHEN deadline > now() THEN deadline END,
            assigned_to = CASE WHEN pinned THEN assigned_to END,
            last_seq = last_seq + 1, updated_at = now()
        WHERE id = :id AND workflow_id IS NULL AND status IN ('failed', 'cancelled', 'skipped')
          AND NOT EXISTS (SELECT FROM parents WHERE status IN ('failed', 'cancelled', 'skipped'))
        RETURNING id, last_seq, round, attempt
    )
    INSERT INTO events (task_id, seq, kind, round, attempt, data)
    SELECT id, last_seq, 'retrying', round, attempt, '{"reason": "asked"}' FROM u RETURNING task_id
    """
)


_WORKFLOW = text("SELECT workflow_id FROM tasks WHERE id = :id AND status IN ('failed', 'cancelled', 'skipped')")


def retry(db: Session, task_id: str, payload: dict[str, Any] | None = None) -> None:
    """Open a new round of a task that did not succeed, with a new payload if one is given (already checked).

    If it belongs to a workflow, all of that is retried that did not succeed.

    Raises:
        Conflict: the task is in another state, or waits for a parent that did not succeed.
    """
    if workflow_id := db.execute(_WORKFLOW, {"id": task_id}).scalar():
        # The workflow's row first, as everybody does.
        reopen(db, workflow_id)
        if payload is not None:
            replace_payload(db, task_id, payload)
        return
    params = {"id": task_id, "payload": None if payload is None else json.dumps(payload)}
    if db.execute(_RETRY, params).first() is None:
        raise Conflict("Only a failed, cancelled or skipped task is retried, and not below a parent that is one.")
    after_commit(db, "ring", publisher.ring)
