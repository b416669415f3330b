"""From a claim to what a sandbox is asked, and from its answer to an outcome."""

from __future__ import annotations

import pytest

from app.tasks.types import TASK_TYPES, CodePayload
from tests.support import a_claim
from workers.execution import outcome_of, spec_of
from workers.handlers import HANDLERS, handle
from workers.heart import Hold
from workers.sandbox.spec import Limits, SandboxResult, Verdict


def hold(**values: object) -> Hold:
    return Hold(a_claim(**values), good_until=0)


def test_a_program_is_asked_for_as_it_was_posted() -> None:
    payload = CodePayload.model_validate(
        {
            "code": "print(1)", "stdin": "in", "args": ["-v"], "env": {"A": "b"},
            "files": {"f": "é", "b": {"base64": "AP8="}},
            "limits": {"wall_s": 1, "cpu_s": 2, "memory_mb": 32, "pids": 4, "disk_mb": 5, "output_kb": 6},
        }
    )  # fmt: skip
    spec = spec_of(hold(id="t", attempt=3, task_type="shell"), payload)
    assert (spec.name, spec.language, spec.code, spec.argv) == ("t-3", "shell", "print(1)", None)
    assert (spec.stdin, spec.args, spec.env) == ("in", ("-v",), {"A": "b"})
    assert spec.files == {"f": "é".encode(), "b": b"\0\xff"}
    assert spec.limits == Limits(wall_s=1, cpu_s=2, memory_mb=32, pids=4, disk_mb=5, output_kb=6)


def test_a_command_takes_the_place_of_code() -> None:
    spec = spec_of(hold(), CodePayload.model_validate({"argv": ["ls", "-l"]}))
    assert (spec.code, spec.argv) == (None, ("ls", "-l"))


@pytest.mark.parametrize("task_type", [name for name, kind in TASK_TYPES.items() if not kind.inline])
def test_every_sandboxed_type_has_a_language(task_type: str) -> None:
    assert spec_of(hold(task_type=task_type), CodePayload(code="1")).language


@pytest.mark.parametrize(
    ("verdict", "kind", "retryable"),
    [
        (Verdict.OK, "succeeded", True), (Verdict.NONZERO_EXIT, "failed", True), (Verdict.SIGNALED, "failed", True),
        (Verdict.TIMEOUT, "failed", True), (Verdict.CPU_LIMIT, "failed", True), (Verdict.OOM, "failed", True),
        (Verdict.OUTPUT_LIMIT, "failed", True), (Verdict.REJECTED, "failed", False),
        (Verdict.INFRA_ERROR, "infra", True),
    ],
)  # fmt: skip
def test_each_verdict_is_one_kind_of_outcome(verdict: Verdict, kind: str, retryable: bool) -> None:
    outcome = outcome_of(hold(), SandboxResult(verdict=verdict, stdout="out"))
    assert (outcome.kind, outcome.retryable) == (kind, retryable)
    assert outcome.result is not None
    assert outcome.result["stdout"] == "out", "the result is there whatever the verdict"
    assert (outcome.error is None) == (kind == "succeeded")


def test_the_sandbox_s_own_words_are_the_error() -> None:
    assert outcome_of(hold(), SandboxResult(verdict=Verdict.OOM, error="Out of memory.")).error == "Out of memory."


@pytest.mark.parametrize(
    ("reason", "kind"),
    [("cancelled", "cancelled"), ("overdue", "failed"), ("drain", "handed_back"), ("lost", "infra")],
)
def test_why_a_program_was_stopped_decides_what_that_means(reason: str, kind: str) -> None:
    held = hold(max_attempts=5)
    held.stop(reason)  # type: ignore[arg-type]
    outcome = outcome_of(held, SandboxResult(verdict=Verdict.CANCELLED))
    assert outcome.kind == kind
    assert outcome.retryable == (reason != "overdue")


def test_a_program_that_ended_before_the_stop_reached_it_has_its_own_end() -> None:
    held = hold()
    held.stop("cancelled")
    assert outcome_of(held, SandboxResult(verdict=Verdict.OK)).kind == "succeeded"


def test_every_inline_type_has_a_handler() -> None:
    assert set(HANDLERS) == {name for name, kind in TASK_TYPES.items() if kind.inline}


def test_echo_answers_its_payload() -> None:
    assert handle(a_claim(task_type="echo", payload={"a": [1]})).result == {"a": [1]}


def test_what_a_handler_raises_is_the_failure_of_its_task(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(HANDLERS, "echo", lambda payload: payload["missing"])
    outcome = handle(a_claim(task_type="echo", payload={}))
    assert (outcome.kind, outcome.error) == ("failed", "KeyError: 'missing'")
