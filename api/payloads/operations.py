"""Models of the probes."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from api.payloads.common import Out


class HealthOut(Out):
    """The process lives."""

    status: Literal["ok"] = "ok"


class CheckOut(Out):
    """One thing that was looked at."""

    ok: bool
    required: bool = Field(description="Whether the process is unready without it.")
    detail: str


class ReadyOut(Out):
    """Whether requests can be answered."""

    status: Literal["ready", "not_ready"]
    checks: dict[str, CheckOut]
