"""What a client may ask of a socket, besides following: who it is, submit, cancel, acknowledge."""

from __future__ import annotations

from typing import Any

from api import auth
from api.payloads.live import AcknowledgeIn, AuthIn, CancelIn, SubmitIn
from api.views.tasks import submit_task
from app import idempotency, tickets
from app.db import single, transaction
from app.keys import Caller
from app.messages.acknowledge import acknowledge as acknowledge_
from app.messages.find import get as get_message
from app.tasks import find
from app.tasks.cancel import cancel

#: What stands for method and path where answers are kept.
_ROUTE = "WS submit"


def authenticate(frame: AuthIn) -> Caller:
    """Who opens a socket. Raises Unauthorized."""
    if frame.key is not None:
        return auth.holder(frame.key)
    with single() as db:
        return tickets.redeem(db, frame.ticket or "")


def submit(caller: Caller, frame: SubmitIn) -> dict[str, Any]:
    """Submit a task, or answer what was answered before. Raises what `POST /api/v1/tasks` answers with."""
    auth.require(caller, "submit")
    if frame.idempotency_key is None:
        return _accepted(submit_task(caller, frame.task).body)
    body = frame.task.model_dump_json(exclude_unset=True).encode()
    repeatable = idempotency.Request(caller.owner, _ROUTE, frame.idempotency_key, body)
    with transaction() as db:
        answer = idempotency.recall(db, repeatable)
        if answer is None:
            answer = idempotency.Answer(202, _accepted(submit_task(caller, frame.task, db).body), None)
            idempotency.remember(db, repeatable, answer)
    return answer.body


def cancel_task(caller: Caller, frame: CancelIn) -> dict[str, Any]:
    """Cancel a task. Raises NotFound, or Conflict if it has ended otherwise."""
    auth.require(caller, "submit")
    with transaction() as db:
        find.get(db, frame.task_id, caller.sees)
        return {"task_id": frame.task_id, "status": cancel(db, frame.task_id)}


def acknowledge(caller: Caller, frame: AcknowledgeIn) -> dict[str, Any]:
    """Acknowledge a letter. Raises NotFound, or Conflict if it is in no inbox."""
    auth.require(caller, "submit")
    with transaction() as db:
        get_message(db, frame.message_id, caller.sees)
        acknowledge_(db, frame.message_id)
    return {"message_id": frame.message_id, "status": "received"}


def _accepted(task: Any) -> dict[str, Any]:
    return {"task_id": task.id, "status": str(task.status)}
