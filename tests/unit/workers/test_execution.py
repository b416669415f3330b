"""From a claim to what a sandbox is asked, and from its answer to an outcome."""

from __future__ import annotations

import pytest

from app.settings import settings
from app.tasks.code import CodePayload
from app.tasks.types import TASK_TYPES
from tests.support import a_claim
from workers.execution import outcome_of, run_code, spec_of
from workers.handlers import HANDLERS, handle
from workers.heart import Hold
from workers.sandbox.choose import Nowhere
from workers.sandbox.spec import Limits, SandboxResult, SandboxSpec, Verdict


def hold(**values: object) -> Hold:
    return Hold(a_claim(**values), good_until=0)


def a_spec(**values: object) -> SandboxSpec:
    return spec_of(a_claim(**values))


def test_a_program_is_asked_for_as_it_was_posted() -> None:
    payload = {
        "code": "print(1)", "stdin": "in", "args": ["-v"], "env": {"A": "b"},
        "files": {"f": "é", "b": {"base64": "AP8="}},
        "limits": {"wall_s": 1, "cpu_s": 2, "memory_mb": 32, "pids": 4, "disk_mb": 5, "file_mb": 3, "open_files": 16,
                   "output_kb": 6},
    }  # fmt: skip
    spec = a_spec(id="t", attempt=3, task_type="shell", payload=payload)
    assert (spec.name, spec.language, spec.code, spec.argv) == ("t-3", "shell", "print(1)", None)
    assert (spec.stdin, spec.args, spec.env) == ("in", ("-v",), {"A": "b"})
    assert spec.files == {"f": "é".encode(), "b": b"\0\xff"}
    assert spec.limits == Limits(
        wall_s=1, cpu_s=2, memory_mb=32, pids=4, disk_mb=5, file_mb=3, open_files=16, output_kb=6
    )
    assert (spec.image, spec.runtime, spec.network) == (None, None, None)


def test_a_command_takes_the_place_of_code() -> None:
    spec = a_spec(payload={"argv": ["ls", "-l"]})
    assert (spec.code, spec.argv) == (None, ("ls", "-l"))


def test_the_defaults_of_payload_and_sandbox_are_the_same() -> None:
    assert a_spec(payload={"code": "1"}).limits == Limits()


@pytest.mark.parametrize("task_type", [name for name, kind in TASK_TYPES.items() if kind.payload is CodePayload])
def test_every_language_is_run_by_its_own_name(task_type: str) -> None:
    assert a_spec(task_type=task_type).language == task_type


@pytest.fixture
def operator(environment: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Settings that allow an image and a network, and name a runtime for containers."""
    environment.setenv("CLAWQ_SANDBOX_IMAGES", "tools:1")
    environment.setenv("CLAWQ_SANDBOX_NETWORKS", "egress")
    environment.setenv("CLAWQ_SANDBOX_RUNTIMES", '{"container": "runsc"}')
    environment.setenv("CLAWQ_SANDBOX_CEILING", '{"memory_mb": 128}')
    settings.cache_clear()
    return environment


TOOLS = {"image": "tools:1", "argv": ["make"], "args": ["all"], "network": "egress"}


@pytest.mark.usefixtures("operator")
def test_a_container_brings_its_image_and_gets_what_the_operator_says() -> None:
    spec = a_spec(task_type="container", payload=TOOLS)
    assert (spec.code, spec.argv, spec.args, spec.image) == (None, ("make",), ("all",), "tools:1")
    assert (spec.network, spec.runtime, spec.limits.memory_mb) == ("egress", "runsc", 128)


def test_no_program_gets_more_than_its_agent_gives() -> None:
    agent = {"limits": {"wall_s": 5, "memory_mb": 512, "pids": 8}}
    limits = a_spec(payload={"code": "1", "limits": {"wall_s": 9, "pids": 4}}, sandbox=agent).limits
    assert (limits.wall_s, limits.memory_mb, limits.pids) == (5, 256, 4)
    assert a_spec(payload={"code": "1"}, sandbox={"limits": None}).limits == Limits()


@pytest.mark.usefixtures("operator")
def test_the_agents_word_goes_before_the_settings() -> None:
    agent = {"images": {"python": "science:2"}, "runtime": "kata"}
    assert (a_spec(sandbox=agent).image, a_spec(sandbox=agent).runtime) == ("science:2", "kata")
    assert a_spec(task_type="shell", sandbox=agent).image is None
    container = a_spec(task_type="container", payload=TOOLS, sandbox=agent)
    assert (container.image, container.runtime) == ("tools:1", "kata")
    for silent in ({}, {"images": None, "runtime": None}, None):
        assert (a_spec(sandbox=silent).image, a_spec(sandbox=silent).runtime) == (None, None)


@pytest.mark.parametrize(
    ("setting", "value", "told"),
    [
        ("CLAWQ_SANDBOX_IMAGES", "", "payload.image: no image is allowed here"),
        ("CLAWQ_SANDBOX_NETWORKS", "", "payload.network: must be one of false"),
        ("CLAWQ_SANDBOX_CEILING", '{"pids": 8}', "payload.limits.pids: at most 8 here"),
    ],
)
def test_what_is_no_longer_allowed_is_rejected_and_does_not_run(
    operator: pytest.MonkeyPatch, setting: str, value: str, told: str
) -> None:
    operator.setenv(setting, value)
    settings.cache_clear()
    claim = a_claim(task_type="container", payload={**TOOLS, "limits": {"pids": 9}}, max_attempts=5)
    outcome = run_code(Hold(claim, good_until=0), Nowhere("It must not be asked."))
    assert (outcome.kind, outcome.retryable) == ("failed", False)
    assert outcome.result is not None
    assert outcome.result["verdict"] == "rejected"
    assert told in str(outcome.error)


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
    monkeypatch.setitem(HANDLERS, "echo", lambda claim: claim.payload["missing"])
    outcome = handle(a_claim(task_type="echo", payload={}))
    assert (outcome.kind, outcome.error) == ("failed", "KeyError: 'missing'")
