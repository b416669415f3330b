"""Task types: which queue runs each, whether it shares envelopes, and what its payload may hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

from pydantic import BaseModel, JsonValue, RootModel, ValidationError, model_validator

from app.errors import Invalid, Problem
from app.memory.payloads import ConsolidatePayload, ForgetPayload, SearchPayload, Sought, StorePayload
from app.queues import Queue
from app.tasks.code import CodePayload, ContainerPayload, ProgramPayload

#: Echo is for canaries and benchmarks, and shares its worker's memory with a whole envelope.
MAX_ECHO_BYTES = 2**20
#: Ids in one envelope of inline tasks: half of what is admitted at once, so that two slots share it.
INLINE_BATCH = 250
#: The same of memory: each is a search or a write, one after the other in its slot.
MEMORY_BATCH = 16


class EchoPayload(RootModel[dict[str, JsonValue]]):
    """Any JSON object of moderate size; it is the result."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if len(self.model_dump_json()) > MAX_ECHO_BYTES:
            raise ValueError(f"larger than {MAX_ECHO_BYTES} bytes")
        return self


@dataclass(frozen=True)
class TaskType:
    """What the system knows of a kind of work."""

    name: str
    payload: type[BaseModel]
    #: Where it runs unless it is assigned to an agent of a role that runs it too.
    queue: Queue
    #: Done in the worker itself, without a sandbox.
    inline: bool
    #: Ids that one envelope may carry: more than one where each ends at once.
    share: int = 1
    #: Roles other than `queue` whose workers run it when an agent of theirs is named.
    roles: frozenset[str] = frozenset()


TASK_TYPES = {
    t.name: t
    for t in (
        TaskType("echo", EchoPayload, Queue.EXECUTION, inline=True, share=INLINE_BATCH, roles=frozenset(Queue)),
        TaskType("python", CodePayload, Queue.EXECUTION, inline=False),
        TaskType("shell", CodePayload, Queue.EXECUTION, inline=False),
        TaskType("javascript", CodePayload, Queue.EXECUTION, inline=False),
        TaskType("container", ContainerPayload, Queue.EXECUTION, inline=False),
        TaskType("memory.store", StorePayload, Queue.MEMORY, inline=True, share=MEMORY_BATCH),
        TaskType("memory.search", SearchPayload, Queue.MEMORY, inline=True, share=MEMORY_BATCH),
        TaskType("memory.forget", ForgetPayload, Queue.MEMORY, inline=True, share=MEMORY_BATCH),
        TaskType("memory.consolidate", ConsolidatePayload, Queue.MEMORY, inline=True, share=MEMORY_BATCH),
    )
}


def check_payload(task_type: str, payload: Any) -> BaseModel:
    """Check a payload against its task type, and against what the operator's settings allow; return its model.

    Raises:
        Invalid: with a problem for each thing that is wrong, `loc` starting at "task_type" or "payload".
    """
    known = TASK_TYPES.get(task_type)
    if known is None:
        allowed = ", ".join(sorted(TASK_TYPES))
        raise Invalid("Unknown task type.", problems=[Problem(("task_type",), f"must be one of {allowed}")])
    try:
        model = known.payload.model_validate(payload)
    except ValidationError as exc:
        raise _unfit([Problem(e["loc"], e["msg"]) for e in exc.errors(include_url=False)]) from None
    if isinstance(model, Sought) and (found := model.problems()):
        raise _unfit(found)
    if isinstance(model, ProgramPayload) and (refusals := model.refusals()):
        raise _unfit(refusals, "The operator's settings do not allow this payload.")
    return model


def _unfit(found: Sequence[Problem], why: str = "The payload does not fit the task type.") -> Invalid:
    return Invalid(why, problems=[Problem(("payload", *p.loc), p.msg) for p in found])
