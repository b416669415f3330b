"""A workflow as it is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from schema.tasks import OnFailure, Priority


@dataclass(frozen=True, kw_only=True)
class NewStep:
    """One of its tasks."""

    #: Its name in the workflow.
    key: str
    task_type: str
    #: May hold references (refs.py).
    payload: dict[str, Any]
    #: Keys of the tasks that end first.
    depends_on: Sequence[str] = ()
    #: A condition (conditions.py): if it does not hold, the task is skipped. None: always run.
    when: Any = None
    on_failure: str = OnFailure.SKIP
    #: A list, or a reference to one: the task is done once for each element. None: once.
    map: Any = None
    #: The waits between tries: `delay_s`, `factor`, `max_delay_s`. None: as usual.
    retry: dict[str, float] | None = None
    description: str = ""
    priority: str = Priority.NORMAL
    assigned_to: str | None = None
    max_attempts: int = 1
    delay_s: float = 0
    deadline: datetime | None = None
    labels: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class NewWorkflow:
    """Tasks and what holds for all of them."""

    name: str
    tasks: Sequence[NewStep]
    description: str = ""
    #: What references to `input` read.
    input: dict[str, Any] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    session_id: str | None = None
    #: What each of its tasks has at the latest.
    deadline: datetime | None = None
    #: At most so many of its tasks are in flight at once. None: no limit.
    max_running: int | None = None
    #: As posted, its input apart, so that it can be run again.
    document: dict[str, Any] = field(default_factory=dict)
