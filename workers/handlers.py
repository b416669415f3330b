"""Inline task types: done at once, in the worker itself. Code of strangers never comes here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from app.errors import ClawqError
from app.tasks.claim import Claim
from app.tasks.retry import Outcome
from workers import memory

#: Result of a claimed task.
Handler = Callable[[Claim], dict[str, Any]]


def echo(claim: Claim) -> dict[str, Any]:
    """Answer the payload: the canary, and the benchmark's no-op."""
    return claim.payload


HANDLERS: dict[str, Handler] = {
    "echo": echo,
    "memory.store": memory.store,
    "memory.search": memory.search,
    "memory.forget": memory.forget,
    "memory.consolidate": memory.consolidate,
}


def handle(claim: Claim) -> Outcome:
    """Run the handler of an inline task; what it raises is the task's failure, not the worker's."""
    try:
        return Outcome(kind="succeeded", result=HANDLERS[claim.task_type](claim))
    except (OperationalError, InterfaceError, PoolTimeout) as exc:
        # Postgres' fault, not the task's.
        return Outcome(kind="infra", error=f"{type(exc).__name__}: {exc}")
    except ClawqError as exc:
        return Outcome(kind="failed", error=" ".join((exc.detail, *(problem.msg for problem in exc.problems))))
    except Exception as exc:  # noqa: BLE001
        return Outcome(kind="failed", error=f"{type(exc).__name__}: {exc}")
