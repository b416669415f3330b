"""Workflows: submit, list, show and wait, the graph, and what can be done to one."""

from __future__ import annotations

from typing import Any

from sqlalchemy.orm import Session

from api.endpoints import JSON, PREFIX, YAML, Reply, Section
from api.news import wait_for_end
from api.payloads.common import WaitQuery
from api.payloads.workflows import (
    DocumentedWorkflowOut,
    GraphOut,
    RerunIn,
    WorkflowIn,
    WorkflowListQuery,
    WorkflowOut,
    WorkflowPage,
    once_more,
)
from app.db import Db, single
from app.keys import Caller
from app.workflows import control, find
from app.workflows.picture import graph
from app.workflows.reopen import reopen
from app.workflows.submit import submit
from schema.workflows import ENDED

section = Section("Workflows")


@section.route(
    "POST", "/workflows", scope="submit", answers={202: WorkflowOut}, creates=True, refers=True, accepts=(JSON, YAML)
)
def submit_workflow(db: Session, caller: Caller, body: WorkflowIn) -> Reply:
    """Submit a workflow: all of its tasks, or none.

    It is stored when this answers. YAML may say what JSON can, in 2 MiB: no anchors, no tags.
    """
    return _created(db, submit(db, caller.owner, body.to_new_workflow()))


@section.route("GET", "/workflows", scope="read", answers={200: WorkflowPage})
def list_workflows(db: Session, caller: Caller, query: WorkflowListQuery) -> Reply:
    """List workflows, the newest first."""
    wanted = find.Filter(
        owner=caller.sees,
        status=query.status,
        name=query.name,
        label=query.label_pair,
        session_id=query.session_id,
    )
    found, next_cursor = find.find(db, wanted, query.cursor, query.limit)
    return Reply(WorkflowPage(items=[WorkflowOut.of(*one) for one in found], next_cursor=next_cursor))


@section.route("GET", "/workflows/<workflow_id>", scope="read", answers={200: DocumentedWorkflowOut})
def show_workflow(workflow_id: str, caller: Caller, query: WaitQuery) -> Reply:
    """Show a workflow; with `wait`, once it has ended or that time is up."""
    workflow = _read(workflow_id, caller)
    if query.wait == 0 or workflow.status in ENDED:
        return Reply(_shown(workflow))
    if not wait_for_end(workflow_id, caller.owner, query.wait, lambda: _has_ended(workflow_id)):
        return Reply(_shown(workflow), headers={"Retry-After": "1"})
    return Reply(_shown(_read(workflow_id, caller)))


@section.route("GET", "/workflows/<workflow_id>/graph", scope="read", answers={200: GraphOut})
def show_graph(db: Session, caller: Caller, workflow_id: str) -> Reply:
    """Show which tasks of a workflow end before which, how each stands, and where the time goes."""
    find.look(db, workflow_id, caller.sees)
    return Reply(GraphOut.model_validate(graph(db, workflow_id)))


@section.route(
    "POST",
    "/workflows/<workflow_id>/cancel",
    scope="submit",
    answers={200: WorkflowOut, 202: WorkflowOut},
    conflicts="It has already ended otherwise.",
)
def cancel_workflow(db: Session, caller: Caller, workflow_id: str) -> Reply:
    """Cancel a workflow and all of its tasks that have not ended.

    200: it is cancelled. 202: some of its tasks run and were asked to stop, and it is `cancelled` once their programs
    are dead. Asking twice is harmless.
    """
    find.look(db, workflow_id, caller.sees)
    control.cancel(db, workflow_id)
    shown = _stands(db, workflow_id)
    return Reply(shown, 200 if shown.status in ENDED else 202)


@section.route(
    "POST",
    "/workflows/<workflow_id>/pause",
    scope="submit",
    answers={200: WorkflowOut},
    conflicts="It has ended, or is being cancelled.",
)
def pause_workflow(db: Session, caller: Caller, workflow_id: str) -> Reply:
    """Pause a workflow: what runs goes on, nothing more is started until it is resumed."""
    find.look(db, workflow_id, caller.sees)
    control.pause(db, workflow_id)
    return Reply(_stands(db, workflow_id))


@section.route(
    "POST",
    "/workflows/<workflow_id>/resume",
    scope="submit",
    answers={200: WorkflowOut},
    conflicts="It has ended.",
)
def resume_workflow(db: Session, caller: Caller, workflow_id: str) -> Reply:
    """Resume a paused workflow."""
    find.look(db, workflow_id, caller.sees)
    control.resume(db, workflow_id)
    return Reply(_stands(db, workflow_id))


@section.route(
    "POST",
    "/workflows/<workflow_id>/retry",
    scope="submit",
    answers={202: WorkflowOut},
    conflicts="It is neither failed nor cancelled.",
)
def retry_workflow(db: Session, caller: Caller, workflow_id: str) -> Reply:
    """Retry a failed or cancelled workflow from where it failed: what has succeeded stays as it is."""
    find.look(db, workflow_id, caller.sees)
    reopen(db, workflow_id)
    return Reply(_stands(db, workflow_id), 202, location=f"{PREFIX}/workflows/{workflow_id}")


@section.route("POST", "/workflows/<workflow_id>/rerun", scope="submit", answers={202: WorkflowOut}, creates=True)
def rerun_workflow(db: Session, caller: Caller, workflow_id: str, body: RerunIn) -> Reply:
    """Run a workflow once more from the start, as a new one without deadlines, with another input if one is given."""
    workflow = find.see(db, workflow_id, caller.sees)
    new = once_more(workflow.document, workflow.input if body.input is None else body.input)
    return _created(db, submit(db, workflow.owner, new, rerun_of=workflow_id))


def _created(db: Session, workflow_id: str) -> Reply:
    return Reply(_stands(db, workflow_id), 202, location=f"{PREFIX}/workflows/{workflow_id}")


def _stands(db: Db, workflow_id: str) -> WorkflowOut:
    """The workflow as this transaction leaves it."""
    workflow = find.look(db, workflow_id, None)
    return WorkflowOut.of(workflow, find.standings(db, [workflow_id])[workflow_id])


def _shown(workflow: Any) -> DocumentedWorkflowOut:
    with single() as db:
        return DocumentedWorkflowOut.of(workflow, find.standings(db, [workflow.id])[workflow.id])


def _read(workflow_id: str, caller: Caller) -> Any:
    with single() as db:
        return find.see(db, workflow_id, caller.sees)


def _has_ended(workflow_id: str) -> bool:
    with single() as db:
        return find.has_ended(db, workflow_id)
