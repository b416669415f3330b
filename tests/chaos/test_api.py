"""An API that is killed while a client waits for its answer."""

from __future__ import annotations

import pytest

from tests.chaos.rig import Rig
from tests.chaos.tasks import Tasks, new_key


@pytest.mark.parametrize("committed", [False, True], ids=["before the commit", "after it"])
def test_a_request_whose_answer_died_is_answered_when_it_is_repeated(rig: Rig, tasks: Tasks, committed: bool) -> None:
    key, link = new_key(), rig.link("api", "postgres")
    link.trap(b"EXECUTE clawq_submit", b"COMMIT", deliver=committed)
    first = tasks.aside(key)
    link.await_sprung()
    rig.kill("api")
    link.cut()
    assert first.result().status == 0
    there = [row.id for row in tasks.rows()]
    again = tasks.post(key)
    assert there == ([again] if committed else [])
    assert tasks.settle() == {"succeeded": 1}


@pytest.mark.parametrize("written", [False, True], ids=["before it is written", "after it"])
def test_a_request_that_cannot_be_repeated_is_done_once_or_not_at_all(rig: Rig, tasks: Tasks, written: bool) -> None:
    link = rig.link("api", "postgres")
    link.trap(b"EXECUTE clawq_submit", deliver=written)
    first = tasks.aside(new_key(), repeatable=False)
    link.await_sprung()
    link.cut()
    assert first.result().status == 503
    tasks.accepted += [row.id for row in tasks.rows()]
    assert tasks.settle() == ({"succeeded": 1} if written else {})


def test_an_api_killed_under_load_loses_nothing_that_was_accepted(rig: Rig, tasks: Tasks) -> None:
    with tasks.load():
        tasks.await_accepted(30)
        rig.kill("api")
        tasks.await_accepted(60)
    assert {answer.status for answer in tasks.answers} <= {202, 0}
    assert tasks.settle() == {"succeeded": len(tasks.accepted)}
