"""What Redis loses, doubles or delays: exactly one start of each task, and nothing stands still for long."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from app import publisher
from app.celery import celery_app
from app.db import transaction
from app.tasks.claim import Claim
from app.tasks.finish import finish
from app.workflows.advance import advance
from tests.fleet import Envelope, a_step, draw, flow, post_flow, retry_now, states, tasks_of, work
from tests.support import SUCCEEDED, end, kinds, scalar, sql, take, together

_ONCE = ["accepted", "queued", "running", "succeeded"]


def _diamond() -> str:
    return post_flow(a_step("a"), a_step("b", "a"), a_step("c", "a"), a_step("d", "b", "c"))


def _each_once(workflow_id: str) -> None:
    assert flow(workflow_id).status == "succeeded"
    assert {row.key: kinds(row.id) for row in tasks_of(workflow_id).values()} == {
        key: _ONCE for key in tasks_of(workflow_id)
    }


def _until_header(workflow_id: str) -> list[Envelope]:
    """Work until the chord's header waits in Redis."""
    while True:
        drawn = draw()
        if header := [envelope for envelope in drawn if envelope.chord]:
            return header
        for envelope in drawn:
            envelope.open()


def _lose_counter() -> None:
    keys = [key for key in publisher.client().scan_iter("celery-taskset-meta-*")]
    assert keys
    publisher.client().delete(*keys)


def test_a_header_that_is_lost() -> None:
    workflow_id = _diamond()
    lost, kept = _until_header(workflow_id)
    kept.open()
    work()
    assert sorted(states(workflow_id).values()) == ["pending", "queued", "succeeded", "succeeded"]
    retry_now(workflow_id)
    work()
    _each_once(workflow_id)
    lost.open()
    work()
    _each_once(workflow_id)


def test_a_counter_that_is_lost() -> None:
    workflow_id = _diamond()
    first, second = _until_header(workflow_id)
    first.open()
    _lose_counter()
    second.open()
    work()
    assert states(workflow_id)["d"] == "pending"
    assert tasks_of(workflow_id)["d"].next_dispatch_at is not None
    retry_now(workflow_id)
    work()
    _each_once(workflow_id)


def test_a_body_that_redis_does_not_take(clawq: pytest.MonkeyPatch) -> None:
    workflow_id = _diamond()

    def fail(*_: Any, **__: Any) -> None:
        raise OSError("gone")

    with clawq.context() as gone:
        gone.setattr(celery_app.amqp, "_retry_publish", fail)
        for envelope in _until_header(workflow_id):
            envelope.open()
    # Celery's own backend would keep that failure for a day.
    assert not list(publisher.client().scan_iter("celery-task-meta-*"))
    retry_now(workflow_id)
    work()
    _each_once(workflow_id)


def test_how_long_a_lost_body_is_waited_for() -> None:
    workflow_id = _diamond()
    for envelope in _until_header(workflow_id):
        envelope.open()
    assert [e.job for e in draw()] == ["workflows.step"]
    waits_s = scalar(
        "SELECT extract(epoch FROM next_dispatch_at - now()) FROM tasks WHERE id = :id",
        id=tasks_of(workflow_id)["d"].id,
    )
    # And a tick of the clock.
    assert waits_s < 30


def test_a_body_that_comes_twice() -> None:
    workflow_id = _diamond()
    for envelope in _until_header(workflow_id):
        envelope.open()
    (body,) = draw()
    together(body.open, body.open)
    body.open()
    work()
    _each_once(workflow_id)


def test_a_body_that_comes_before_its_parents_have_ended() -> None:
    workflow_id = _diamond()
    first, second = _until_header(workflow_id)
    first.open()
    body = Envelope(_body_of(second))
    body.open()
    assert states(workflow_id)["d"] == "pending"
    second.open()
    work()
    _each_once(workflow_id)


def _body_of(header: Envelope) -> bytes:
    """The body's envelope, as the last header would send it."""
    message = json.loads(header.raw)
    signature = header.chord
    message["headers"] |= {"task": signature["task"], "id": signature["options"]["task_id"], "group": None}
    message["body"] = base64.b64encode(json.dumps([signature["args"], {}, {}]).encode()).decode()
    return json.dumps(message).encode()


def test_a_parent_that_ends_outside_its_chain_gives_its_child_to_the_coordinator() -> None:
    workflow_id = post_flow(a_step("a"), a_step("b", "a"))
    for envelope in draw("coordinator"):
        envelope.open()
    assert [len(envelope.chain) for envelope in draw()] == [1]
    assert tasks_of(workflow_id)["b"].carrier == "canvas"
    # As after a re-dispatch, whose envelope brings nothing else.
    end(*((claim, SUCCEEDED) for claim in take(tasks_of(workflow_id)["a"].id)))
    assert tasks_of(workflow_id)["b"].carrier == "coordinator"
    work()
    _each_once(workflow_id)


def test_every_envelope_three_times() -> None:
    workflow_id = post_flow(
        a_step("a"), a_step("b", "a"), a_step("c", "b"), a_step("d"), a_step("e", "c", "d"), a_step("f", "a", "d")
    )
    for _ in range(100):
        drawn = draw()
        if not drawn:
            break
        for envelope in [*drawn, *drawn, *drawn]:
            envelope.open()
    _each_once(workflow_id)


@pytest.mark.parametrize("job", ["workflows.advance", "workflows.step", "tasks.run"])
def test_the_first_envelopes_of_a_job_are_lost(job: str) -> None:
    workflow_id = post_flow(a_step("a"), a_step("b", "a"), a_step("c"), a_step("d", "b", "c"), a_step("e", "d"))
    lost = iter([True] * 3)
    for _ in range(8):
        work(keep=lambda envelope: envelope.job != job or not next(lost, False))
        retry_now(workflow_id)
    assert next(lost, None) is None
    work()
    assert flow(workflow_id).status == "succeeded"
    assert all(row.attempt == 1 for row in tasks_of(workflow_id).values())


def test_redis_forgets_everything_in_between() -> None:
    workflow_id = post_flow(*(a_step(f"t{n}", *([f"t{n - 1}"] if n % 3 else [])) for n in range(9)), a_step("z", "t8"))
    for _ in range(6):
        for envelope in draw()[:2]:
            envelope.open()
        publisher.client().flushdb()
        retry_now(workflow_id)
    work()
    _each_once(workflow_id)


def test_the_last_two_parents_end_together() -> None:
    """A barrier releases both ends at one moment, a thousand times: the join starts once each time."""
    rounds, joins = 20, 50
    steps = [(a_step(f"a{n}"), a_step(f"b{n}"), a_step(f"c{n}", f"a{n}", f"b{n}")) for n in range(joins)]
    workflow_id = post_flow(*(step for three in steps for step in three))
    with transaction() as db:
        advance(db, workflow_id)
    ids = {key: row.id for key, row in tasks_of(workflow_id).items()}
    for _ in range(rounds):
        publisher.client().flushdb()
        for start in range(0, joins, 5):
            _race([(ids[f"a{n}"], ids[f"b{n}"]) for n in range(start, start + 5)])
        work()
        assert flow(workflow_id).status == "succeeded"
        _put_back(workflow_id)
    assert sql(_JOINS, id=workflow_id) == [(rounds, rounds, rounds, 0)] * joins


_JOINS = """
    SELECT attempt, round - 1, (SELECT count(*) FROM events WHERE task_id = t.id AND kind = 'succeeded'),
           (SELECT count(*) FROM attempts WHERE task_id = t.id AND outcome <> 'succeeded')
    FROM tasks t WHERE workflow_id = :id AND key LIKE 'c%'
"""


def _race(pairs: Sequence[tuple[str, str]]) -> None:
    """End the first parents of some joins in one transaction, and the second ones in another at the same moment."""
    sides = [take(*side) for side in zip(*pairs, strict=True)]
    ended = together(*(_end(claims) for claims in sides))
    assert ended == [set(side) for side in zip(*pairs, strict=True)]


def _end(claims: Sequence[Claim]) -> Callable[[], Any]:
    def end() -> Any:
        with transaction() as db:
            return finish(db, [(claim, SUCCEEDED) for claim in claims])

    return end


def _put_back(workflow_id: str) -> None:
    """Another round of all its tasks, so that the next race needs no new workflow."""
    sql("UPDATE workflows SET status = 'running', completed_at = NULL WHERE id = :id", id=workflow_id)
    sql(
        """
        INSERT INTO edges (parent_id, child_id)
        SELECT d.id, t.id FROM tasks t, jsonb_array_elements_text(dependencies) AS d (id)
        WHERE workflow_id = :id AND jsonb_typeof(dependencies) = 'array'
        """,
        id=workflow_id,
    )
    sql(
        """
        UPDATE tasks SET status = CASE WHEN key LIKE 'c%' THEN 'pending' ELSE 'queued' END, round = round + 1,
            completed_at = NULL, deps_left = CASE WHEN key LIKE 'c%' THEN 2 ELSE 0 END, carrier = 'coordinator'
        WHERE workflow_id = :id
        """,
        id=workflow_id,
    )
