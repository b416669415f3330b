"""What tasks should be: their state machine in plain Python, to hold the rows of the real one against.

It is written from docs/glossary.md and docs/architecture.md, not from the SQL, and shares no code with app/tasks.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

UNSUCCESSFUL = ("failed", "cancelled", "skipped")
TERMINAL = ("succeeded", *UNSUCCESSFUL)

#: Lost workers and sandbox faults in one round; this one ends the task.
_MOST_INFRA = 3
#: How many queued tasks the machine's settings allow.
WINDOW = 3

#: A word of the story: kind, round, attempt.
Word = tuple[str, int, int]


@dataclass
class Known:
    """One task as it should stand."""

    max_attempts: int
    #: Parents that have not succeeded yet.
    waits_for: set[str]
    #: Whether its available_at has come.
    due: bool
    deadline: Literal["none", "ahead", "passed"]
    status: str = "pending"
    attempt: int = 0
    round: int = 1
    failures: int = 0
    infra_failures: int = 0
    progress: int = 0
    cancel_requested: bool = False
    dispatches: int = 0
    #: Its lease has run out / its envelope is to be sent again.
    lapsed: bool = False
    unheard: bool = False
    #: Seconds, at least and at most, that an automatic retry has just been told to wait.
    delay_s: tuple[float, float] | None = None
    story: list[Word] = field(default_factory=list)
    #: (round, outcome) of each attempt; None while it runs.
    attempts: list[tuple[int, str | None]] = field(default_factory=list)

    def tell(self, kind: str) -> None:
        """Append an event."""
        self.story.append((kind, self.round, self.attempt))

    def become(self, status: str, kind: str | None = None) -> None:
        """Move to `status`, which is told as `kind`."""
        self.status = status
        self.lapsed = self.unheard = False
        self.tell(kind or status)


class Model:
    """All tasks, oldest first. Each verb changes them and returns what the real verb has to return."""

    def __init__(self) -> None:
        self.tasks: dict[str, Known] = {}

    def copy(self) -> Model:
        """Another one that goes its own way."""
        return copy.deepcopy(self)

    def name(self, task_id: str) -> str:
        """A name that is the same each time an example is run."""
        return f"t{list(self.tasks).index(task_id)}" if task_id in self.tasks else "unknown"

    def where(self, condition: Callable[[Known], bool]) -> list[str]:
        """The ids of those that meet a condition."""
        return [i for i, task in self.tasks.items() if condition(task)]

    def accepts(self, parents: Iterable[str]) -> bool:
        """Whether a child of `parents` can ever start."""
        return all(self.tasks[p].status not in UNSUCCESSFUL for p in parents)

    def submit(self, task_id: str, parents: Iterable[str], *, max_attempts: int, delayed: bool, deadline: bool) -> None:
        """Add a task that is accepted."""
        waits_for = {p for p in parents if self.tasks[p].status != "succeeded"}
        task = Known(max_attempts, waits_for, due=not delayed, deadline="ahead" if deadline else "none")
        task.tell("accepted")
        self.tasks[task_id] = task

    def room(self) -> int:
        """How many more may be queued."""
        return WINDOW - len(self.where(lambda t: t.status == "queued"))

    def admissible(self) -> set[str]:
        """What may be queued now."""
        return set(self.where(lambda t: t.status == "pending" and not t.waits_for and t.due))

    def admit(self, chosen: Iterable[str]) -> None:
        """Queue those."""
        for task_id in chosen:
            self.tasks[task_id].become("queued")
            self.tasks[task_id].dispatches = 1

    def claim(self, ids: Iterable[str]) -> list[tuple[str, int, int, int]]:
        """Run those that are queued. Returns (id, attempt, failures, infra_failures), oldest task first."""
        asked = set(ids)
        won = self.where(lambda t: t.status == "queued" and t.deadline != "passed")
        for task in (self.tasks[i] for i in won if i in asked):
            task.attempt += 1
            task.progress = 0
            task.attempts.append((task.round, None))
            task.become("running")
        return [(i, t.attempt, t.failures, t.infra_failures) for i, t in self.tasks.items() if i in asked & {*won}]

    def holds(self, fence: tuple[str, int]) -> bool:
        """Whether an attempt is the one that runs."""
        task = self.tasks[fence[0]]
        return (task.status, task.attempt) == ("running", fence[1])

    def beat(self, fence: tuple[str, int]) -> tuple[bool, bool] | None:
        """Extend a lease. Returns (cancelled, overdue), None where it is lost."""
        if held := self.look(fence):
            self.tasks[fence[0]].lapsed = False
        return held

    def look(self, fence: tuple[str, int]) -> tuple[bool, bool] | None:
        """See whether an attempt is to stop."""
        task = self.tasks[fence[0]]
        return (task.cancel_requested, task.deadline == "passed") if self.holds(fence) else None

    def report(self, fence: tuple[str, int], kinds: Sequence[str], progress: int | None) -> bool:
        """Append events of a running attempt."""
        if not self.holds(fence):
            return False
        task = self.tasks[fence[0]]
        for kind in kinds:
            task.tell(kind)
        if progress is not None:
            task.progress = progress
        return True

    def finish(self, ended: Collection[tuple[tuple[str, int], Any]]) -> set[str]:
        """End attempts, each with its Outcome. Returns the ids that were still theirs."""
        ours = [(fence[0], outcome) for fence, outcome in ended if self.holds(fence)]
        for task_id, outcome in ours:
            self._settle(self.tasks[task_id], outcome)
        self._after_end(task_id for task_id, _ in ours)
        return {task_id for task_id, _ in ours}

    def _settle(self, task: Known, outcome: Any) -> None:
        task.attempts[-1] = (task.round, "failed" if outcome.kind == "infra" else outcome.kind)
        task.failures += outcome.kind == "failed"
        task.infra_failures += outcome.kind == "infra"
        if outcome.kind in ("succeeded", "cancelled"):
            if outcome.kind == "succeeded":
                task.progress = 100
            return task.become(outcome.kind)
        used_up = task.failures >= task.max_attempts or task.infra_failures >= _MOST_INFRA
        if outcome.kind != "handed_back" and (used_up or not outcome.retryable):
            return task.become("failed")
        if task.cancel_requested:
            return task.become("cancelled")
        task.become("pending", "retrying")
        if outcome.kind == "handed_back":
            task.due = True
        else:
            seconds = 2.0 ** (task.failures + task.infra_failures - 1)
            self._wait(task, 0.8 * seconds, 1.2 * seconds)
        return None

    def _wait(self, task: Known, at_least_s: float, at_most_s: float) -> None:
        task.due = at_most_s == 0
        task.delay_s = (at_least_s, at_most_s)

    def cancel(self, task_id: str) -> str | None:
        """Returns the state it has now, None where it has ended otherwise."""
        task = self.tasks[task_id]
        if task.status in ("pending", "queued"):
            task.cancel_requested = True
            task.become("cancelled")
            self._after_end([task_id])
        elif task.status == "running" and not task.cancel_requested:
            task.cancel_requested = True
            task.tell("cancel_requested")
        return task.status if task.status in ("cancelled", "running") else None

    def retry(self, task_id: str) -> bool:
        """Open a new round. Returns whether it may be."""
        task = self.tasks[task_id]
        if task.status not in UNSUCCESSFUL or not self.accepts(task.waits_for):
            return False
        task.round += 1
        task.failures = task.infra_failures = task.progress = 0
        task.cancel_requested = False
        task.due = True
        task.deadline = "none" if task.deadline == "passed" else task.deadline
        task.become("pending", "retrying")
        return True

    def lost(self) -> set[str]:
        """What runs under a lease that has run out."""
        return set(self.where(lambda t: t.status == "running" and t.lapsed))

    def take_back(self, chosen: Collection[str]) -> int:
        """Take those from their workers."""
        for task in (self.tasks[i] for i in chosen):
            task.attempts[-1] = (task.round, "lease_expired")
            task.infra_failures += 1
            task.become("pending", "lease_expired")
            if task.cancel_requested:
                task.become("cancelled")
            elif task.deadline == "passed" or task.infra_failures >= _MOST_INFRA:
                task.become("failed")
            else:
                seconds = 2.0 ** (task.infra_failures - 1) - 1
                self._wait(task, seconds, seconds)
        self._after_end(chosen)
        return len(chosen)

    def overdue(self) -> set[str]:
        """What nobody started before its deadline."""
        return set(self.where(lambda t: t.status in ("pending", "queued") and t.deadline == "passed"))

    def expire(self, chosen: Collection[str]) -> int:
        """Fail those."""
        for task_id in chosen:
            self.tasks[task_id].become("failed")
        self._after_end(chosen)
        return len(chosen)

    def unheard(self) -> set[str]:
        """What is queued and due for another envelope."""
        return set(self.where(lambda t: t.status == "queued" and t.unheard))

    def redispatch(self, chosen: Collection[str]) -> int:
        """Send those again."""
        for task_id in chosen:
            self.tasks[task_id].dispatches += 1
            self.tasks[task_id].unheard = False
        return len(chosen)

    def _after_end(self, ended: Iterable[str]) -> None:
        ended = list(ended)
        for parent in (i for i in ended if self.tasks[i].status == "succeeded"):
            for task in self.tasks.values():
                task.waits_for.discard(parent)
        lost = {i for i in ended if self.tasks[i].status in UNSUCCESSFUL}
        while lost:
            below = {i for i, task in self.tasks.items() if task.waits_for & lost and task.status == "pending"}
            for task_id in below:
                self.tasks[task_id].become("skipped")
            lost = below
