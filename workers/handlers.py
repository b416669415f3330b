"""Inline task types: done at once, in the worker itself. Code of strangers never comes here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from app.tasks.claim import Claim
from app.tasks.retry import Outcome

#: Payload in, result out.
Handler = Callable[[dict[str, Any]], dict[str, Any]]


def echo(payload: dict[str, Any]) -> dict[str, Any]:
    """Answer the payload: the canary, and the benchmark's no-op."""
    return payload


HANDLERS: dict[str, Handler] = {"echo": echo}


def handle(claim: Claim) -> Outcome:
    """Run the handler of an inline task; what it raises is the task's failure, not the worker's."""
    try:
        return Outcome(kind="succeeded", result=HANDLERS[claim.task_type](claim.payload))
    except Exception as exc:  # noqa: BLE001
        return Outcome(kind="failed", error=f"{type(exc).__name__}: {exc}")
