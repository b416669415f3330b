"""Check: whether a workflow can be accepted, looked at whole before anything of it is stored."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from app.db import Db
from app.errors import Invalid, NotFound, Problem
from app.tasks.check import Known, NewTask, look_up, missing_of, problems_of
from app.workflows import conditions, graph, refs
from app.workflows.asked import NewStep, NewWorkflow

#: More would help nobody.
_MOST_PROBLEMS = 100


def check(db: Db, owner: str, new: NewWorkflow) -> Known:
    """Check all of `new`. Returns what its tasks refer to.

    Raises:
        NotFound: its session does not exist, or is another owner's.
        Invalid: anything else is not acceptable; each problem's `loc` leads into the document.
    """
    if problems := graph.problems_of(new.tasks) or list(islice(_references(new), _MOST_PROBLEMS)):
        raise Invalid("The workflow was not accepted.", problems=problems)
    tasks = [_as_task(step, new) for step in new.tasks]
    known = look_up(db, [(owner, task) for task in tasks])
    if missing := missing_of(owner, tasks[0], known):
        raise NotFound("The workflow was not accepted: something that it refers to does not exist.", problems=missing)
    problems = [
        Problem(problem.loc if problem.loc[0] == "session_id" else ("tasks", place, *problem.loc), problem.msg)
        for place, (step, task) in enumerate(zip(new.tasks, tasks, strict=True))
        for problem in problems_of(owner, task, known, payload=not is_made(step))
    ]
    if problems:
        raise Invalid("The workflow was not accepted.", problems=problems)
    return known


def is_made(step: NewStep) -> bool:
    """Whether the payload is known only when the task is about to start."""
    return step.map is not None or refs.has_refs(step.payload)


def _as_task(step: NewStep, new: NewWorkflow) -> NewTask:
    return NewTask(
        task_type=step.task_type,
        payload=step.payload,
        assigned_to=step.assigned_to,
        # Once is enough to have it looked at.
        session_id=new.session_id if step is new.tasks[0] else None,
    )


def _references(new: NewWorkflow) -> Iterator[Problem]:
    places = {step.key: place for place, step in enumerate(new.tasks)}
    for place, step in enumerate(new.tasks):
        for name, found in _written(step):
            yield from (Problem(("tasks", place, name, *p.loc), p.msg) for p in found)
    asked = {step.key: _named(step) for step in new.tasks if is_made(step) or step.when is not None}
    for key, others in graph.strangers(new.tasks, asked).items():
        for other in others:
            known = f"{other} does not end before it: name it in depends_on" if other in places else f"no task {other}"
            yield Problem(("tasks", places[key]), f"refers to tasks.{other}, but {known}")


def _written(step: NewStep) -> Iterator[tuple[str, list[Problem]]]:
    mapped = step.map is not None
    yield "payload", refs.problems_of(step.payload, mapped=mapped)
    if step.when is not None:
        yield "when", conditions.problems_of(step.when)
    if mapped and not isinstance(step.map, list) and not refs.has_refs(step.map):
        yield "map", [Problem((), "takes a list, or a reference to one")]
    elif mapped:
        yield "map", refs.problems_of(step.map, mapped=False)


def _named(step: NewStep) -> set[str]:
    when = conditions.task_keys(step.when) if step.when is not None else set()
    return refs.task_keys(step.payload) | refs.task_keys(step.map) | when
