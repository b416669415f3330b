"""Idempotency: the work and its answer stand together or not at all."""

from __future__ import annotations

from dataclasses import replace

import pytest

from app import idempotency
from app.db import transaction
from app.errors import IdempotencyInFlight, IdempotencyMismatch
from app.idempotency import Answer, Request
from app.tasks.submit import submit
from tests.support import OWNER, a_task, scalar, sql, together

pytestmark = pytest.mark.usefixtures("clawq")

REQUEST = Request(owner=OWNER, route="POST /api/v1/tasks", key="k1", body=b'{"a":1}')


def handle(request: Request = REQUEST, *, fail: bool = False) -> Answer:
    """What a view does: recall, else work and remember."""
    with transaction() as db:
        if known := idempotency.recall(db, request):
            return known
        (task_id,) = submit(db, request.owner, [a_task()])
        answer = Answer(202, {"id": task_id}, f"/tasks/{task_id}")
        idempotency.remember(db, request, answer)
        if fail:
            raise RuntimeError
        return answer


def test_a_repeated_request_gets_the_first_answer_and_does_no_work() -> None:
    first = handle()
    assert handle() == first
    assert scalar("SELECT count(*) FROM tasks") == 1


def test_another_body_under_the_same_key_is_refused() -> None:
    handle()
    with pytest.raises(IdempotencyMismatch):
        handle(replace(REQUEST, body=b'{"a":2}'))


@pytest.mark.parametrize("other", [{"owner": "eve"}, {"route": "POST /other"}, {"key": "k2"}])
def test_keys_of_other_owners_and_routes_are_other_keys(other: dict[str, str]) -> None:
    assert handle() != handle(replace(REQUEST, **other))
    assert scalar("SELECT count(*) FROM tasks") == 2


def test_while_the_first_is_handled_the_second_is_told_to_wait() -> None:
    with transaction() as db:
        assert idempotency.recall(db, REQUEST) is None
        with pytest.raises(IdempotencyInFlight):
            handle()
    assert handle()


def test_a_request_that_failed_can_be_sent_again() -> None:
    with pytest.raises(RuntimeError):
        handle(fail=True)
    assert scalar("SELECT count(*) FROM tasks") == 0
    handle()
    assert scalar("SELECT count(*) FROM tasks") == 1


def test_of_many_at_once_one_does_the_work() -> None:
    for trial in range(5):
        answers = together(*[lambda t=trial: handle(replace(REQUEST, key=f"k{t}"))] * 6)
        given = {answer.body["id"] for answer in answers if isinstance(answer, Answer)}
        assert len(given) == 1
        assert all(isinstance(a, Answer | IdempotencyInFlight) for a in answers)
        assert scalar("SELECT count(*) FROM tasks") == trial + 1


def test_answers_are_forgotten_after_a_day() -> None:
    handle()
    with transaction() as db:
        idempotency.sweep(db)
    assert scalar("SELECT count(*) FROM idempotency") == 1
    sql("UPDATE idempotency SET created_at = now() - interval '25 hours'")
    with transaction() as db:
        idempotency.sweep(db)
    assert scalar("SELECT count(*) FROM idempotency") == 0
