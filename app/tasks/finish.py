"""Finish: end attempts, and with them their tasks or another try, fenced by the attempt."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial

from app import metrics, publisher
from app.db import Db, after_commit
from app.prepared import prepared
from app.tasks.claim import Claim
from app.tasks.release import Ended, release
from app.tasks.retry import Outcome, settle

# A cancel that came while the program was failing wins over another try; a success stands.
_FINISH = prepared(
    "finish",
    """
    WITH locked AS (
        SELECT t.id, t.status AS was, n.*
        FROM unnest(CAST(:ids AS text[]), CAST(:attempts AS int[]), CAST(:statuses AS text[]),
                    CAST(:outcomes AS text[]), CAST(:results AS text[]), CAST(:errors AS text[]),
                    CAST(:failures AS int[]), CAST(:infra_failures AS int[]), CAST(:delays AS float8[]))
             AS n (task_id, attempt, status, outcome, result, error, failures, infra_failures, delay_s)
        JOIN tasks t ON t.id = n.task_id AND t.attempt = n.attempt
        ORDER BY t.mapped_from IS NULL, t.id FOR UPDATE OF t
    ), u AS (
        UPDATE tasks t SET
            status = CASE WHEN n.status = 'pending' AND t.cancel_requested_at IS NOT NULL THEN 'cancelled'
                          ELSE n.status END,
            result = CASE WHEN n.status <> 'pending' THEN n.result::jsonb END, error = n.error,
            failures = n.failures, infra_failures = n.infra_failures,
            progress = CASE n.status WHEN 'succeeded' THEN 100 ELSE t.progress END,
            completed_at = CASE WHEN n.status <> 'pending' OR t.cancel_requested_at IS NOT NULL THEN now() END,
            available_at = now() + n.delay_s * interval '1 second',
            assigned_to = CASE WHEN n.status <> 'pending' OR pinned THEN assigned_to END,
            carrier = CASE WHEN workflow_id IS NULL THEN carrier ELSE 'coordinator' END,
            lease_owner = NULL, lease_until = NULL, last_seq = last_seq + 1, updated_at = now()
        FROM locked n WHERE t.id = n.id AND n.was = 'running'
        RETURNING t.id, t.attempt, t.round, t.status, t.workflow_id, t.last_seq, n.outcome, n.error, n.delay_s
    ), a AS (
        UPDATE attempts a SET ended_at = now(), outcome = u.outcome, error = u.error
        FROM u WHERE a.task_id = u.id AND a.attempt = u.attempt
    ), e AS (
        INSERT INTO events (task_id, seq, kind, round, attempt, data)
        SELECT id, last_seq, CASE status WHEN 'pending' THEN 'retrying' ELSE status END, round, attempt,
               jsonb_strip_nulls(jsonb_build_object(
                   'error', error, 'reason', CASE WHEN status = 'pending' THEN outcome END,
                   'delay_s', CASE WHEN status = 'pending' THEN round(delay_s::numeric, 3) END))
        FROM u
    )
    SELECT id, status, workflow_id FROM u
    """,
)


def finish(db: Db, ended: Sequence[tuple[Claim, Outcome]], *, in_canvas: bool = False) -> set[str]:
    """Write how attempts ended, release or skip the children of those that ended for good.

    Args:
        ended: the attempts, and how each ended.
        in_canvas: whether a chain or chord goes on from here (release.py).

    Returns:
        The ids that were still ours. The result of any other is discarded: its lease had gone to someone else.
    """
    settled = [settle(claim, outcome) for claim, outcome in ended]
    rows = db.execute(
        _FINISH,
        {
            "ids": [claim.id for claim, _ in ended],
            "attempts": [claim.attempt for claim, _ in ended],
            "statuses": [s.status for s in settled],
            "outcomes": ["failed" if outcome.kind == "infra" else outcome.kind for _, outcome in ended],
            "results": [None if outcome.result is None else json.dumps(outcome.result) for _, outcome in ended],
            "errors": [outcome.error for _, outcome in ended],
            "failures": [s.failures for s in settled],
            "infra_failures": [s.infra_failures for s in settled],
            "delays": [s.delay_s for s in settled],
        },
    ).all()
    after_end(db, [Ended(*row) for row in rows], in_canvas=in_canvas)
    return {row.id for row in rows}


def after_end(db: Db, ended: Sequence[Ended], *, in_canvas: bool = False) -> None:
    """What every way to end a task owes: its children, the counters, and news for those who watch."""
    release(db, ended, in_canvas=in_canvas)
    if ended:
        publisher.tell_after(db, [task.id for task in ended])
        after_commit(db, ("count", ended[0]), partial(_count, [task.status for task in ended]))


def _count(statuses: Sequence[str]) -> None:
    for status in statuses:
        if status == "pending":
            metrics.TASK_RETRIES.inc()
        else:
            metrics.TASKS_COMPLETED.labels(status=status).inc()
