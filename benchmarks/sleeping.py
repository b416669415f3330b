"""One more task type, for measurements and tests: `sleep` takes time and no CPU, and answers a sum.

A stack knows it whose processes import this module instead of `app` and `api`: one that is started from `procfile()`,
with ROOT in its PYTHONPATH.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from app.celery import celery_app
from app.queues import Queue
from app.tasks.claim import Claim
from app.tasks.types import TASK_TYPES, TaskType
from workers.handlers import HANDLERS

__all__ = ["ENVIRONMENT", "ROOT", "celery_app", "create_app", "procfile"]

ROOT = Path(__file__).resolve().parents[1]
#: What a stack that is started from `procfile()` needs to find this module.
ENVIRONMENT = {"PYTHONPATH": str(ROOT)}
#: Seconds after which a file is given up that does not come.
_PATIENCE_S = 60


class SleepPayload(BaseModel):
    """How long, or until when; and what the answer is the sum of, beside 1."""

    model_config = ConfigDict(extra="forbid")

    s: float = Field(0, ge=0, le=60)
    #: A file: while it exists, the task does not end.
    while_there: str | None = None
    add: list[int] = []


def sleep(claim: Claim) -> dict[str, Any]:
    """Take time, then answer one more than the sum of `add`."""
    asked = SleepPayload.model_validate(claim.payload)
    time.sleep(asked.s)
    deadline = time.monotonic() + _PATIENCE_S
    while asked.while_there and Path(asked.while_there).exists():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{asked.while_there} is still there")
        time.sleep(0.01)
    return {"sum": 1 + sum(asked.add)}


TASK_TYPES["sleep"] = TaskType("sleep", SleepPayload, Queue.EXECUTION, inline=True)
HANDLERS["sleep"] = sleep


def create_app(*, live: bool = False) -> Any:
    """The API, or the server of WebSockets."""
    from api import create_app as made

    return made(live=live)


def procfile(path: Path, slots: int = 8) -> Path:
    """Write the project's Procfile to `path`, its processes made to know `sleep`, with so many slots to run tasks."""
    text = (ROOT / "Procfile").read_text(encoding="utf-8")
    for ours, theirs in {
        "-A app ": f"-A {__name__} ",
        "'api:create_app(": f"'{__name__}:create_app(",
        "-n execution@%h --concurrency 8": f"-n execution@%h --concurrency {slots}",
    }.items():
        if ours not in text:
            raise ValueError(f"the Procfile has no {ours}")
        text = text.replace(ours, theirs)
    path.write_text(text, encoding="utf-8")
    return path
