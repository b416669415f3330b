"""From what engine, kernel and supervisor saw to the one verdict of a run. Pure."""

from __future__ import annotations

import signal
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

from workers.sandbox.spec import Limits, Verdict

#: Why the worker ended a run.
Cause = Literal["cancelled", "timeout", "output_limit"]


@dataclass(frozen=True, kw_only=True)
class Ending:
    """How a conversation with a supervisor ended."""

    #: The supervisor announced that it starts the program.
    started: bool
    #: Why the worker ended it, or None if it ended by itself.
    cause: Cause | None
    #: The supervisor's last word, or None if it did not come to that.
    report: dict[str, Any] | None

    def silenced(self, *, signal: int) -> Ending:
        """This ending, of a supervisor that was itself killed by `signal` before it could report."""
        return replace(self, report={"signal": signal})


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """A verdict with its numbers and its sentence."""

    verdict: Verdict
    exit_code: int | None = None
    signal: int | None = None
    error: str | None = None


def judge(ending: Ending, limits: Limits, *, oom: bool = False) -> Judgement:
    """The verdict of a run whose supervisor reported, or that the worker ended.

    Args:
        oom: the engine says that the kernel ran out of this sandbox's memory.
    """
    report = ending.report or {}
    reason = ending.cause or report.get("reason")
    if reason == "refused":
        return Judgement(verdict=Verdict.REJECTED, error=f"The program was not started: {report.get('detail')}.")
    if reason in _REASONS:
        verdict, error = _REASONS[reason]
        return Judgement(verdict=verdict, error=error.format(limits=limits))
    exit_code, number = report.get("exit_code"), report.get("signal")
    if (oom or report.get("oom_kill")) and exit_code != 0:
        error = _REASONS["oom"][1].format(limits=limits)
        return Judgement(verdict=Verdict.OOM, exit_code=exit_code, signal=number, error=error)
    if number is not None:
        error = f"The program was ended by signal {number} ({_signal_name(number)})."
        return Judgement(verdict=Verdict.SIGNALED, signal=number, error=error)
    if exit_code:
        error = f"The program ended with exit code {exit_code}."
        return Judgement(verdict=Verdict.NONZERO_EXIT, exit_code=exit_code, error=error)
    return Judgement(verdict=Verdict.OK, exit_code=0)


def limits_hit(verdict: Verdict, report: dict[str, Any], *, truncated: bool) -> tuple[str, ...]:
    """Names of the limits that a run came up against: the one that ended it, and those that it was only told of."""
    hit = {name for name in _LIMITS if name in report.get("limits_hit", ())}
    hit |= {_ENDED_BY[verdict]} if verdict in _ENDED_BY else set()
    hit |= {"output_kb"} if truncated else set()
    return tuple(sorted(hit))


_LIMITS = [field.name for field in fields(Limits)]
_ENDED_BY = {
    Verdict.TIMEOUT: "wall_s",
    Verdict.CPU_LIMIT: "cpu_s",
    Verdict.OOM: "memory_mb",
    Verdict.OUTPUT_LIMIT: "output_kb",
}
_REASONS = {
    "cancelled": (Verdict.CANCELLED, "The run was stopped."),
    "timeout": (Verdict.TIMEOUT, "The program ran longer than {limits.wall_s} s."),
    "cpu_limit": (Verdict.CPU_LIMIT, "The program used more than {limits.cpu_s} s of CPU."),
    "output_limit": (Verdict.OUTPUT_LIMIT, "The program wrote far more output than the {limits.output_kb} KiB kept."),
    "oom": (Verdict.OOM, "The program used more than {limits.memory_mb} MiB of memory."),
    "disk": (Verdict.SIGNALED, "The program was killed: it wrote more than {limits.disk_mb} MiB of files."),
}


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return "real-time"
