"""Find: an owner's own tasks, page by page."""

from __future__ import annotations

import base64
import json
import secrets

import pytest

from app.db import transaction
from app.errors import Invalid, NotFound
from app.tasks import find
from app.tasks.report import report
from schema.sessions import Session
from schema.tasks import EventKind, Task
from tests.support import HANDED_BACK, OWNER, SUCCEEDED, a_task, employ, end, post, post_one, put, running, start

pytestmark = pytest.mark.usefixtures("clawq")


def found(limit: int = 100, cursor: str | None = None, **wanted: object) -> list[str]:
    with transaction() as db:
        return [task.id for task in find.find(db, find.Filter(**wanted), cursor, limit)[0]]  # type: ignore[arg-type]


def test_an_owner_sees_no_task_of_another() -> None:
    mine, hers = post_one(), post_one(owner="eve")
    with transaction() as db:
        assert find.get(db, mine, OWNER).id == mine
        assert find.get(db, hers, None).id == hers
        for task_id in (hers, "none", ""):
            with pytest.raises(NotFound):
                find.get(db, task_id, OWNER)
        assert set(find.get_many(db, [mine, "none"])) == {mine}
    assert found(owner=OWNER) == [mine]
    assert set(found()) == {mine, hers}


@pytest.mark.parametrize("size", [1, 3, 7, 25])
def test_pages_hold_every_task_once_newest_first(size: int) -> None:
    ids = [*post(*[a_task()] * 5), *(post_one() for _ in range(4)), *post(*[a_task()] * 3)]
    seen: list[str] = []
    cursor = None
    with transaction() as db:
        while True:
            tasks, cursor = find.find(db, find.Filter(owner=OWNER), cursor, size)
            assert len(tasks) <= size
            seen += [task.id for task in tasks]
            if cursor is None:
                break
    assert seen == sorted(ids, reverse=True)


def test_a_task_posted_between_two_pages_moves_nothing() -> None:
    ids = [post_one() for _ in range(4)]
    with transaction() as db:
        first, cursor = find.find(db, find.Filter(), None, 2)
    post_one()
    with transaction() as db:
        rest, end_ = find.find(db, find.Filter(), cursor, 5)
    assert [task.id for task in (*first, *rest)] == ids[::-1]
    assert end_ is None


@pytest.mark.parametrize(
    "cursor",
    [
        "", "x", "é", "%%%", *(base64.urlsafe_b64encode(text.encode()).decode() for text in (
            "", "[]", "7", '"ab"', "null", '["2020-01-01T00:00:00+00:00"]', '["soon","id"]', '[1,"id"]',
            '["2020-01-01T00:00:00+00:00","a\\u0000"]', '["2020-01-01T00:00:00+00:00","\\ud800"]', "[" * 5000,
        )),
    ],
)  # fmt: skip
def test_a_foreign_cursor_is_refused(cursor: str) -> None:
    with transaction() as db, pytest.raises(Invalid, match="cursor"):
        find.find(db, find.Filter(), cursor, 10)


def test_a_cursor_cannot_reach_another_owner_s_tasks() -> None:
    post_one(owner="eve")
    position = base64.urlsafe_b64encode(json.dumps(["9999-01-01T00:00:00+00:00", "z"]).encode()).decode()
    assert found(owner=OWNER, cursor=position) == []


def test_each_filter_finds_its_own() -> None:
    employ()
    with transaction() as db:
        db.add(Session(id="s", owner=OWNER, session_type="chat"))
    plain = post_one()
    code = post_one(task_type="python", payload={"code": "1"})
    labelled = post_one(labels={"team": "x", "tier": "1"})
    told = post_one(description="Weekly REPORT 100%_done")
    session = post_one(session_id="s")
    done = put("succeeded")
    assert found(task_type="python") == [code]
    assert found(label=("team", "x")) == [labelled]
    assert found(label=("team", "1")) == []
    assert found(q="report") == found(q="100%_d") == [told]
    assert found(q="100%d") == []
    assert found(q="_") == [told]
    assert found(q=plain) == [plain]
    assert found(session_id="s") == [session]
    assert found(status="succeeded") == [done]
    assert found(queue="memory") == []
    assert found(status="queued", task_type="python", queue="execution", owner=OWNER) == [code]


def test_events_go_on_where_the_last_page_ended() -> None:
    task_id = put("succeeded")
    with transaction() as db:
        first, after = find.events(db, task_id, 0, 3)
        rest, end_ = find.events(db, task_id, int(after or 0), 3)
        assert [event.seq for event in (*first, *rest)] == [1, 2, 3, 4]
        assert end_ is None
        only, _ = find.events(db, task_id, 0, 10, [EventKind.RUNNING, EventKind.SUCCEEDED])
        assert [event.kind for event in only] == ["running", "succeeded"]
        assert find.events(db, task_id, 4, 10) == ([], None)


def test_attempts_are_told_in_order() -> None:
    ours = running()
    end((ours, HANDED_BACK))
    end((start(ours.id), SUCCEEDED))
    with transaction() as db:
        attempts = find.attempts(db, ours.id)
    assert [(a.attempt, a.outcome) for a in attempts] == [(1, "handed_back"), (2, "succeeded")]


def test_a_page_ends_early_before_it_gets_heavy() -> None:
    heavy = [post_one(task_type="shell", payload={"code": "x" * 900_000}) for _ in range(6)]
    light = [post_one() for _ in range(3)]
    whole, cursor, pages = [], None, []
    with transaction() as db:
        while True:
            tasks, cursor = find.find(db, find.Filter(), cursor, 1000)
            pages.append(len(tasks))
            whole += [task.id for task in tasks]
            if cursor is None:
                break
    # The payloads shrink to nothing in the table; what counts is what they are in the answer.
    assert pages == [7, 2]
    assert whole == sorted(heavy + light, reverse=True)


def test_a_page_holds_one_task_however_heavy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(find, "MOST_BYTES", 1)
    ids = post(*[a_task()] * 2)
    with transaction() as db:
        first, cursor = find.find(db, find.Filter(), None, 10)
        rest, end_ = find.find(db, find.Filter(), cursor, 10)
    assert [task.id for task in (*first, *rest)] == sorted(ids, reverse=True)
    assert end_ is None


def test_rows_beyond_a_heavy_page_are_not_opened() -> None:
    # Random, so that Postgres cannot shrink it.
    for _ in range(8):
        post_one(task_type="shell", payload={"code": secrets.token_hex(450_000)})
    with transaction() as db:
        tasks, cursor = find.find(db, find.Filter(), None, 100)
        assert sum(isinstance(row, Task) for row in db.identity_map.values()) == len(tasks) < 8
    assert cursor


def test_a_page_of_events_ends_early_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(find, "MOST_BYTES", 1000)
    ours = running()
    with transaction() as db:
        report(db, ours.id, ours.attempt, [(EventKind.LOG, {"stream": "stdout", "text": "x" * 600})] * 3)
    seen: list[int] = []
    after: str | None = "0"
    with transaction() as db:
        while after is not None:
            found_, after = find.events(db, ours.id, int(after), 100, [EventKind.LOG])
            assert len(found_) == 1
            seen += [event.seq for event in found_]
    assert seen == [4, 5, 6]
