from typing import Any

import pytest

from workers.sandbox.spec import Limits, Verdict
from workers.sandbox.verdict import Cause, Ending, judge


def verdict(cause: Cause | None = None, *, oom: bool = False, **report: Any) -> Verdict:
    ending = Ending(started=True, cause=cause, report=report)
    return judge(ending, Limits(), oom=oom).verdict


def test_plain_endings() -> None:
    assert verdict(exit_code=0) is Verdict.OK
    assert verdict(exit_code=3) is Verdict.NONZERO_EXIT
    assert verdict(signal=11) is Verdict.SIGNALED


@pytest.mark.parametrize("code", [124, 137, 139, 143])
def test_an_exit_code_that_looks_like_a_signal_is_just_an_exit_code(code: int) -> None:
    judgement = judge(Ending(started=True, cause=None, report={"exit_code": code}), Limits())
    assert (judgement.verdict, judgement.exit_code, judgement.signal) == (Verdict.NONZERO_EXIT, code, None)


def test_precedence_of_everything_at_once() -> None:
    """cancelled > timeout > cpu_limit > output_limit > oom > signaled > nonzero_exit > ok, one peeled off at a time."""
    assert verdict("cancelled", reason="cpu_limit", oom_kill=True, signal=9) is Verdict.CANCELLED
    assert verdict("timeout", reason="cpu_limit", oom_kill=True, signal=9) is Verdict.TIMEOUT
    assert verdict(reason="cpu_limit", oom_kill=True, signal=9) is Verdict.CPU_LIMIT
    assert verdict(reason="output_limit", oom_kill=True, signal=9) is Verdict.OUTPUT_LIMIT
    assert verdict(oom_kill=True, signal=9) is Verdict.OOM
    assert verdict(signal=9, exit_code=None) is Verdict.SIGNALED
    assert verdict(exit_code=1) is Verdict.NONZERO_EXIT


def test_oom_needs_a_kill_by_the_kernel_and_a_failure() -> None:
    assert verdict(oom_kill=True, exit_code=137) is Verdict.OOM
    assert verdict(oom_kill=False, signal=9) is Verdict.SIGNALED
    assert verdict(oom_kill=True, exit_code=0) is Verdict.OK


def test_a_supervisor_killed_by_the_kernel_is_the_programs_doing() -> None:
    silent = Ending(started=True, cause=None, report=None).silenced(signal=9)
    assert judge(silent, Limits(), oom=True).verdict is Verdict.OOM
    assert judge(silent, Limits(), oom=False).verdict is Verdict.SIGNALED


def test_every_failure_has_a_sentence_and_success_has_none() -> None:
    limits = Limits(wall_s=5)
    for cause in ("cancelled", "timeout", "output_limit"):
        assert judge(Ending(started=True, cause=cause, report=None), limits).error
    assert "longer than 5 s" in str(judge(Ending(started=True, cause="timeout", report=None), limits).error)
    assert "SIGSEGV" in str(judge(Ending(started=True, cause=None, report={"signal": 11}), limits).error)
    assert judge(Ending(started=True, cause=None, report={"exit_code": 0}), limits).error is None


def test_files_that_do_not_fit_are_the_specs_fault() -> None:
    assert verdict(reason="refused", detail="the code and files cannot be written") is Verdict.REJECTED
