"""Reports and events: numbered without gaps, whoever writes at the same time."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from app.db import transaction
from app.tasks import lease
from app.tasks.cancel import cancel
from app.tasks.report import report
from schema.tasks import EventKind
from tests.support import SUCCEEDED, Claim, end, events, kinds, row, running, together

pytestmark = pytest.mark.usefixtures("clawq")


def say(ours: Claim, *told: tuple[EventKind, dict[str, Any]]) -> bool:
    with transaction() as db:
        return report(db, ours.id, ours.attempt, told)


def test_what_is_told_together_is_numbered_in_order() -> None:
    ours = running()
    log = {"stream": "stdout", "text": "é\n"}
    assert say(ours, (EventKind.LOG, log), (EventKind.PROGRESS, {"progress": 50, "note": "half"}))
    assert kinds(ours.id)[-2:] == ["log", "progress"]
    told = events(ours.id)[-2:]
    assert [event.data for event in told] == [log, {"progress": 50, "note": "half"}]
    assert [(event.attempt, event.round) for event in told] == [(1, 1), (1, 1)]


def test_the_last_progress_is_the_task_s() -> None:
    ours = running()
    say(ours, (EventKind.PROGRESS, {"progress": 10}), (EventKind.PROGRESS, {"progress": 30}))
    say(ours, (EventKind.LOG, {"text": "x"}))
    assert row(ours.id).progress == 30


def test_events_have_no_gap_when_many_write_at_once() -> None:
    ours = running()

    def stop() -> None:
        with transaction() as db:
            cancel(db, ours.id)

    def beat() -> None:
        with transaction() as db:
            lease.heartbeat(db, [(ours.id, ours.attempt)])

    writers = [partial(say, ours, *[(EventKind.LOG, {"n": n})] * (n % 3 + 1)) for n in range(24)]
    results = together(*writers, stop, beat)
    assert not [r for r in results if isinstance(r, Exception)]
    end((ours, SUCCEEDED))
    told = kinds(ours.id)
    assert told.count("log") == sum(n % 3 + 1 for n in range(24))
    assert told.count("cancel_requested") == 1
    assert told[-1] == "succeeded"


def test_nothing_is_told_after_the_end() -> None:
    for _ in range(10):
        ours = running()
        said, ended = together(partial(say, ours, (EventKind.LOG, {"n": 1})), partial(end, (ours, SUCCEEDED)))
        assert ended == {ours.id}
        assert kinds(ours.id)[3:] == (["log", "succeeded"] if said else ["succeeded"])
