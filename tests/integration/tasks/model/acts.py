"""The verbs on tasks as things to try: what each does to the database, and what the model says to it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import text

from app.errors import Conflict, Invalid
from app.tasks import lease, recover
from app.tasks.admit import Admission, admit
from app.tasks.cancel import cancel
from app.tasks.claim import Claim, claim
from app.tasks.finish import finish
from app.tasks.report import record_container, report
from app.tasks.retry import Outcome, retry
from app.tasks.submit import submit
from schema.tasks import EventKind
from tests.integration.tasks.model.known import Model
from tests.integration.tasks.model.rows import story
from tests.support import OWNER, WORKER, a_task

_AHEAD = datetime(2100, 1, 1, tzinfo=UTC)
_DELAY_S = 3600.0

Fence = tuple[str, int]


@dataclass(frozen=True)
class After:
    """What the database says afterwards, from which the model learns what it cannot know: whom a verb chose."""

    rows: dict[str, Any]
    #: Whether nothing else was going on, so that a verb had to choose all it could.
    alone: bool

    def told(self, model: Model, kind: str) -> set[str]:
        """Tasks whose next event, after those the model knows, is of this kind."""
        told = {i: story(row) for i, row in self.rows.items()}
        known = {i: len(task.story) for i, task in model.tasks.items()}
        return {i for i, n in known.items() if told[i][n : n + 1] and told[i][n][0] == kind}

    def is_choice(self, chosen: set[str], possible: set[str], most: int | None = None) -> bool:
        """Whether a verb may have chosen those."""
        wanted = len(possible) if most is None else min(len(possible), most)
        return chosen <= possible and (len(chosen) == wanted if self.alone else len(chosen) <= wanted)


@dataclass(frozen=True)
class Act:
    """One verb with its arguments."""

    name: str
    #: Does it in a transaction, and returns what the verb returned; a refusal is a result.
    run: Callable[[Any], Any]
    #: Does it to the model, and returns whether that is how it can have been.
    explain: Callable[[Model, Any, After], bool]
    #: The attempts in whose name it is done, where it is a worker's.
    fences: Sequence[Fence] = ()

    def is_late(self, model: Model) -> bool:
        """Whether a worker says it of attempts that are no more."""
        return bool(self.fences) and not any(map(model.holds, self.fences))

    def __repr__(self) -> str:
        return self.name


def submitting(
    model: Model, parents: Sequence[str], max_attempts: int, delayed: bool, deadline: bool
) -> Act:  # fmt: skip
    task = a_task(
        dependencies=parents, max_attempts=max_attempts, delay_s=_DELAY_S if delayed else 0,
        deadline=_AHEAD if deadline else None,
    )  # fmt: skip

    def run(db: Any) -> Any:
        try:
            return submit(db, OWNER, [task])
        except Invalid:
            return None

    def explain(model: Model, ids: list[str] | None, _: After) -> bool:
        if not model.accepts(parents):
            return ids is None
        for task_id in ids or ():
            model.submit(task_id, parents, max_attempts=max_attempts, delayed=delayed, deadline=deadline)
        return ids is not None

    told = f"max_attempts={max_attempts}" + ", delayed" * delayed + ", deadline" * deadline
    return Act(f"submit below {_names(model, parents)}, {told}", run, explain)


def admitting() -> Act:
    def explain(model: Model, done: Admission, after: After) -> bool:
        chosen, possible = after.told(model, "queued"), model.admissible()
        if not after.alone:  # a retry that has just begun to wait may have waited long enough
            possible |= {i for i in chosen if model.tasks[i].status == "pending" and model.tasks[i].delay_s}
        fits = after.is_choice(chosen, possible, model.room())
        model.admit(chosen if fits else ())
        return fits and done.more is False

    return Act("admit", admit, explain)


def claiming(model: Model, ids: Sequence[str]) -> Act:
    def explain(model: Model, claims: list[Claim], _: After) -> bool:
        won = sorted((c.id, c.attempt, c.failures, c.infra_failures) for c in claims)
        return won == sorted(model.claim(ids))

    return Act(f"claim {_names(model, ids)}", lambda db: claim(db, ids, WORKER), explain)


def finishing(model: Model, ended: Sequence[tuple[Claim, Outcome]]) -> Act:
    fences = [(c.id, c.attempt) for c, _ in ended]

    def explain(model: Model, ours: set[str], _: After) -> bool:
        return ours == model.finish(list(zip(fences, (outcome for _, outcome in ended), strict=True)))

    told = (f"{_fence(model, c)} {o.kind}{'' if o.retryable else ' for good'}" for c, o in ended)
    return Act(f"finish {', '.join(told)}", lambda db: finish(db, ended), explain, fences)


def reporting(model: Model, ours: Claim, progress: int | None, logs: int) -> Act:
    fence = (ours.id, ours.attempt)
    events: list[tuple[EventKind, dict[str, Any]]] = [(EventKind.LOG, {"text": "x"})] * logs
    if progress is not None:
        events.append((EventKind.PROGRESS, {"progress": progress}))

    def explain(model: Model, held: bool, _: After) -> bool:
        return held == model.report(fence, [kind for kind, _ in events], progress)

    return Act(f"report {_fence(model, ours)}", lambda db: report(db, *fence, events), explain, [fence])


def recording(model: Model, ours: Claim) -> Act:
    fence = (ours.id, ours.attempt)

    def explain(model: Model, held: bool, _: After) -> bool:
        return held == model.holds(fence)

    return Act(
        f"record the container of {_fence(model, ours)}", lambda db: record_container(db, *fence, "c"), explain, [fence]
    )


def beating(model: Model, held: Sequence[Claim], *, extend: bool) -> Act:
    fences = [(c.id, c.attempt) for c in held]

    def explain(model: Model, answers: dict[Fence, lease.Held], _: After) -> bool:
        ask = model.beat if extend else model.look
        expected = {fence: answer for fence in fences if (answer := ask(fence))}
        return {fence: (held.cancelled, held.overdue) for fence, held in answers.items()} == expected

    verb = lease.heartbeat if extend else lease.look
    told = ", ".join(_fence(model, c) for c in held)
    return Act(f"{verb.__name__} {told}", lambda db: verb(db, fences), explain, fences)


def cancelling(model: Model, task_id: str) -> Act:
    def run(db: Any) -> str | None:
        try:
            return cancel(db, task_id)
        except Conflict:
            return None

    def explain(model: Model, status: str | None, _: After) -> bool:
        return status == model.cancel(task_id)

    return Act(f"cancel {model.name(task_id)}", run, explain)


def retrying(model: Model, task_id: str) -> Act:
    def run(db: Any) -> bool:
        try:
            retry(db, task_id)
        except Conflict:
            return False
        return True

    def explain(model: Model, done: bool, _: After) -> bool:
        return done == model.retry(task_id)

    return Act(f"retry {model.name(task_id)}", run, explain)


def taking_back() -> Act:
    return _duty("take back", recover.take_back, "lease_expired", Model.lost, Model.take_back)


def expiring() -> Act:
    return _duty("expire", recover.expire, "failed", Model.overdue, Model.expire)


def redispatching() -> Act:
    def explain(model: Model, count: int, after: After) -> bool:
        dispatches = {i: row.dispatches for i, row in after.rows.items()}
        chosen = {i for i in model.unheard() if dispatches[i] > model.tasks[i].dispatches}
        return after.is_choice(chosen, model.unheard()) and count == model.redispatch(chosen)

    return Act("redispatch", recover.redispatch, explain)


def _duty(
    name: str,
    duty: Callable[[Any], int],
    kind: str,
    due: Callable[[Model], set[str]],
    do: Callable[[Model, set[str]], int],
) -> Act:
    def explain(model: Model, count: int, after: After) -> bool:
        chosen = after.told(model, kind) & due(model)
        return after.is_choice(chosen, due(model)) and count == do(model, chosen)

    return Act(name, duty, explain)


def time_passing() -> Act:
    """Delays are over, and whatever was not claimed is to be sent again."""

    def explain(model: Model, *_: Any) -> bool:
        for task in model.tasks.values():
            task.due |= task.status == "pending"
            task.unheard |= task.status == "queued"
        return True

    return _move(
        "time passes",
        "UPDATE tasks SET available_at = least(available_at, now()), next_dispatch_at = now() "
        "WHERE status IN ('pending', 'queued')",
        [],
        explain,
    )


def falling_silent(model: Model, ids: Sequence[str]) -> Act:
    """The leases of tasks that run have run out."""

    def explain(model: Model, *_: Any) -> bool:
        for task_id in ids:
            model.tasks[task_id].lapsed = True
        return True

    return _move(
        f"the workers of {_names(model, ids)} fall silent",
        "UPDATE tasks SET lease_until = now() - interval '1 s' WHERE id = ANY(:ids)",
        ids,
        explain,
    )


def falling_due(model: Model, task_id: str) -> Act:
    """The deadline of a task has passed."""

    def explain(model: Model, *_: Any) -> bool:
        model.tasks[task_id].deadline = "passed"
        return True

    return _move(
        f"the deadline of {model.name(task_id)} passes",
        "UPDATE tasks SET deadline = now() WHERE id = ANY(:ids)",
        [task_id],
        explain,
    )


def _move(name: str, statement: str, ids: Sequence[str], explain: Callable[[Model, Any, After], bool]) -> Act:
    def run(db: Any) -> None:
        db.execute(text(statement), {"ids": list(ids)})

    return Act(name, run, explain)


def _names(model: Model, ids: Sequence[str]) -> str:
    return ", ".join(map(model.name, ids)) or "nothing"


def _fence(model: Model, ours: Claim) -> str:
    return f"{model.name(ours.id)}#{ours.attempt}"
