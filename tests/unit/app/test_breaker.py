"""The circuit breaker before Redis."""

from __future__ import annotations

import pytest

from app import breaker as breaker_module
from app.breaker import CircuitBreaker


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The clock that the breaker reads; a test moves it by hand."""
    moment = [1000.0]
    monkeypatch.setattr(breaker_module.time, "monotonic", lambda: moment[0])
    return moment


def test_a_new_circuit_lets_everything_through(now: list[float]) -> None:
    breaker = CircuitBreaker(open_s=2)
    assert [breaker.allows() for _ in range(3)] == [True] * 3


def test_a_failure_keeps_everybody_out_for_a_while(now: list[float]) -> None:
    breaker = CircuitBreaker(open_s=2)
    breaker.failed()
    assert not breaker.allows()
    now[0] += 1.9
    assert not breaker.allows()


def test_after_the_wait_one_caller_tries_and_the_others_do_not_wait_with_it(now: list[float]) -> None:
    breaker = CircuitBreaker(open_s=2)
    breaker.failed()
    now[0] += 2
    assert [breaker.allows() for _ in range(3)] == [True, False, False]
    now[0] += 2
    assert breaker.allows(), "the try was never answered, so another is due"


def test_a_success_closes_the_circuit(now: list[float]) -> None:
    breaker = CircuitBreaker(open_s=2)
    breaker.failed()
    breaker.succeeded()
    assert [breaker.allows() for _ in range(3)] == [True] * 3
