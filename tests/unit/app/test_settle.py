"""What an outcome makes of its task, and how long the next attempt waits."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.tasks.retry import MAX_INFRA_FAILURES, Outcome, backoff_s, settle
from schema.tasks import TaskStatus
from tests.support import CANCELLED, FAILED, HANDED_BACK, INFRA, SUCCEEDED, a_claim


@pytest.mark.parametrize(
    ("before", "outcome", "status", "failures", "infra_failures"),
    [
        ({}, SUCCEEDED, "succeeded", 0, 0),
        ({"failures": 2, "max_attempts": 3}, SUCCEEDED, "succeeded", 2, 0),
        ({}, CANCELLED, "cancelled", 0, 0),
        ({"max_attempts": 1}, FAILED, "failed", 1, 0),
        ({"max_attempts": 2}, FAILED, "pending", 1, 0),
        ({"failures": 1, "max_attempts": 2}, FAILED, "failed", 2, 0),
        ({"max_attempts": 1}, INFRA, "pending", 0, 1),
        ({"infra_failures": MAX_INFRA_FAILURES - 1, "max_attempts": 9}, INFRA, "failed", 0, MAX_INFRA_FAILURES),
        ({"failures": 1, "infra_failures": 2, "max_attempts": 3}, FAILED, "pending", 2, 2),
        ({"max_attempts": 1}, HANDED_BACK, "pending", 0, 0),
        ({"max_attempts": 5}, Outcome(kind="failed", retryable=False), "failed", 1, 0),
    ],
)
def test_an_outcome_ends_a_task_or_gives_it_another_try(before, outcome, status, failures, infra_failures) -> None:
    settlement = settle(a_claim(**before), outcome)
    assert settlement.status == status
    assert (settlement.failures, settlement.infra_failures) == (failures, infra_failures)


def test_a_lease_handed_back_is_taken_up_at_once() -> None:
    assert settle(a_claim(failures=3, max_attempts=9), HANDED_BACK).delay_s == 0


def test_only_a_task_that_is_tried_again_waits() -> None:
    assert settle(a_claim(max_attempts=2), FAILED).delay_s > 0
    assert settle(a_claim(max_attempts=1), FAILED).delay_s == 0


@settings(deadline=None)
@given(failures=st.integers(1, 2000))
def test_the_wait_doubles_to_five_minutes_and_spreads_by_a_fifth(failures: int) -> None:
    whole = min(2 ** (failures - 1), 300)
    assert 0.8 * whole <= backoff_s(failures) <= 1.2 * whole


@settings(deadline=None)
@given(
    failures=st.integers(0, 20), infra=st.integers(0, 2), most=st.integers(1, 20),
    outcome=st.sampled_from([SUCCEEDED, FAILED, INFRA, CANCELLED, HANDED_BACK]),
)  # fmt: skip
def test_counters_never_fall_and_a_task_never_has_more_tries_than_allowed(failures, infra, most, outcome) -> None:
    settlement = settle(a_claim(failures=failures, infra_failures=infra, max_attempts=most), outcome)
    assert settlement.failures >= failures
    assert settlement.infra_failures >= infra
    if outcome.kind in ("failed", "infra") and settlement.status == TaskStatus.PENDING:
        assert settlement.failures < most
        assert settlement.infra_failures < MAX_INFRA_FAILURES
