"""Execution: a code task through its sandbox, from payload to outcome."""

from __future__ import annotations

from app import metrics
from app.db import single
from app.errors import Invalid
from app.programs import Language
from app.settings import settings
from app.tasks.claim import Claim
from app.tasks.code import CodePayload, ContainerPayload, ProgramPayload
from app.tasks.report import record_container
from app.tasks.retry import Outcome
from app.tasks.types import check_payload
from workers.artifacts import keep_all
from workers.heart import Hold
from workers.reports import Reports
from workers.sandbox.spec import Callbacks, Limits, Sandbox, SandboxResult, SandboxSpec, Verdict

#: A container's command comes without code, so its language is no matter.
_LANGUAGES: dict[str, Language] = {
    "python": "python",
    "shell": "shell",
    "javascript": "javascript",
    "container": "shell",
}


def run_code(hold: Hold, sandbox: Sandbox) -> Outcome:
    """Run the program of a claim to its end, or until the hold says stop."""
    claim = hold.claim
    try:
        spec = spec_of(claim)
    except Invalid as exc:
        return outcome_of(hold, SandboxResult(verdict=Verdict.REJECTED, sandbox=sandbox.name, error=_sentence(exc)))
    reports = Reports(claim, most_chars=spec.limits.output_kb * 1024)

    def started(container_id: str) -> None:
        with single() as db:
            if not record_container(db, claim.id, claim.attempt, container_id):
                hold.stop("lost")

    callbacks = Callbacks(started=started, output=reports.output, progress=reports.progress, tick=reports.flush_if_due)
    result = sandbox.run(spec, stop=hold, callbacks=callbacks)
    try:
        reports.flush()
        _count(result)
        # False: the attempt is no longer ours, and the outcome will be refused too.
        keep_all(claim, result.artifacts)
        return outcome_of(hold, result)
    finally:
        result.close()


def _count(result: SandboxResult) -> None:
    metrics.SANDBOX_RUNS.labels(sandbox=result.sandbox, verdict=result.verdict).inc()
    for limit in result.limits_hit:
        metrics.SANDBOX_LIMITS.labels(limit=limit).inc()
    if result.start_ms is not None:
        start = "warm" if result.warm else "cold"
        metrics.SANDBOX_STARTS.labels(start=start).inc()
        metrics.SANDBOX_START_SECONDS.labels(start=start).observe(result.start_ms / 1000)


def spec_of(claim: Claim) -> SandboxSpec:
    """What the sandbox is asked to run. What the agent's configuration says goes before what the settings say.

    Raises:
        Invalid: the settings no longer allow what they allowed when the task was accepted.
    """
    payload = check_payload(claim.task_type, claim.payload)
    assert isinstance(payload, ProgramPayload)
    agents = claim.sandbox or {}
    ceiling = agents.get("limits") or {}
    named = payload.image if isinstance(payload, ContainerPayload) else None
    return SandboxSpec(
        name=f"{claim.id}-{claim.attempt}",
        language=_LANGUAGES[claim.task_type],
        code=payload.code if isinstance(payload, CodePayload) else None,
        argv=tuple(payload.argv) if payload.argv else None,
        stdin=payload.stdin,
        args=tuple(payload.args),
        env=payload.env,
        files=payload.file_bytes(),
        limits=Limits(**{name: min(value, ceiling.get(name, value)) for name, value in payload.bounds().items()}),
        image=named or (agents.get("images") or {}).get(claim.task_type),
        runtime=agents.get("runtime") or settings().sandbox_runtimes.get(claim.task_type),  # type: ignore[call-overload]
        network=payload.network or None,
    )


def _sentence(exc: Invalid) -> str:
    listing = "; ".join(f"{'.'.join(map(str, p.loc))}: {p.msg}" for p in exc.problems)
    return f"The program was not started. {exc.detail} {listing}"


def outcome_of(hold: Hold, result: SandboxResult) -> Outcome:
    """What a run means for its task."""
    shown = result.as_json()
    if result.verdict == Verdict.OK:
        return Outcome(kind="succeeded", result=shown)
    if result.verdict == Verdict.CANCELLED:
        if hold.reason == "drain":
            return Outcome(kind="handed_back")
        if hold.reason == "overdue":
            return Outcome(kind="failed", result=shown, error="The deadline passed while it ran.", retryable=False)
        if hold.reason == "lost":
            # Postgres was away, perhaps: nobody asked for a cancel. If the lease did go to another, this is discarded.
            return Outcome(kind="infra", error="The worker could not renew its lease.")
        return Outcome(kind="cancelled", result=shown)
    error = result.error or f"The program ended with {result.verdict}."
    if result.verdict == Verdict.INFRA_ERROR:
        return Outcome(kind="infra", result=shown, error=error)
    return Outcome(kind="failed", result=shown, error=error, retryable=result.verdict != Verdict.REJECTED)
