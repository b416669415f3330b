"""Models of sockets' frames, of event streams and of tickets."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter, model_validator

from api.payloads.common import Id, In, Out, Query
from api.payloads.messages import MessageOut
from api.payloads.tasks import TaskIn
from app.moments import Stamp
from app.streams.stream import Kind
from schema.tasks import EventKind

#: What can be followed, by the field that names it.
KINDS: dict[str, Kind] = {
    "task_id": "task",
    "workflow_id": "workflow",
    "session_id": "session",
    "agent_id": "agent",
}
_Ref = Annotated[str, Field(max_length=255)] | Annotated[int, Field(ge=-(2**53), le=2**53)]


class _Op(In):
    #: Comes back in the answer.
    ref: _Ref | None = None


class AuthIn(_Op):
    """Who opens the socket; the first frame."""

    op: Literal["auth"]
    key: Annotated[str, Field(max_length=255)] | None = None
    ticket: Annotated[str, Field(max_length=255)] | None = None

    @model_validator(mode="after")
    def _one(self) -> AuthIn:
        if (self.key is None) == (self.ticket is None):
            raise ValueError("give key or ticket, one of them")
        return self


class SubmitIn(_Op):
    """A task to be done."""

    op: Literal["submit"]
    task: TaskIn
    idempotency_key: Annotated[str, Field(pattern=r"^[!-~]{1,255}$")] | None = None


class CancelIn(_Op):
    """Cancel a task."""

    op: Literal["cancel"]
    task_id: Id


class AcknowledgeIn(_Op):
    """A letter was received."""

    op: Literal["ack"]
    message_id: Id


class PingIn(_Op):
    """Ask whether anybody is there."""

    op: Literal["ping"]


class _Followed(In):
    task_id: Id | None = None
    workflow_id: Id | None = None
    session_id: Id | None = None
    agent_id: Id | None = None

    @model_validator(mode="after")
    def _one(self) -> Any:
        if sum(getattr(self, name) is not None for name in KINDS) != 1:
            raise ValueError(f"give one of {', '.join(KINDS)}")
        return self

    @property
    def followed(self) -> tuple[Kind, str]:
        """What is followed: its kind and id."""
        return next((kind, value) for name, kind in KINDS.items() if (value := getattr(self, name)) is not None)


class SubscribeIn(_Op, _Followed):
    """Follow something, from behind `after` or from the beginning."""

    op: Literal["subscribe"]
    after: Annotated[str, Field(max_length=100)] | Annotated[int, Field(ge=0, le=2**31 - 1)] | None = None


class UnsubscribeIn(_Op, _Followed):
    """Follow it no longer."""

    op: Literal["unsubscribe"]


Op = Annotated[
    AuthIn | SubmitIn | CancelIn | AcknowledgeIn | PingIn | SubscribeIn | UnsubscribeIn,
    Field(discriminator="op"),
]
OPS: TypeAdapter[Any] = TypeAdapter(Op)


class EventFrame(Out):
    """Something happened to a task."""

    type: Literal["event"] = "event"
    #: Of the subscription, if it had one.
    ref: str | int | None = None
    task_id: str
    seq: int = Field(description="Counts from 1 without gaps, per task.")
    cursor: str = Field(description="Where to go on: pass it as `after`, or Last-Event-ID.")
    kind: EventKind
    at: Stamp
    attempt: int
    data: dict[str, Any]


class MessageFrame(MessageOut):
    """A letter to an agent; told again after a while, until it is acknowledged."""

    type: Literal["message"] = "message"
    ref: str | int | None = None
    cursor: str
    again: bool = Field(description="Whether this connection told it before.")


class StreamQuery(Query, _Followed):
    """What to follow, and from where."""

    after: Annotated[str, Field(max_length=100)] | None = Field(
        None, description="The cursor of the last frame, or of a task the seq; Last-Event-ID goes before it."
    )


class TicketIn(In):
    """Nothing has to be said."""


class TicketOut(Out):
    """What a browser opens a socket with."""

    ticket: str = Field(description='Good for one `{"op":"auth","ticket":…}`.')
    expires_at: Stamp
