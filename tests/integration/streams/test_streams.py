"""Streams: every event of a group once and in order, whenever transactions end, and wherever a follower begins."""

from __future__ import annotations

import itertools
import random
import threading
from collections.abc import Sequence
from typing import Any

import pytest
from sqlalchemy import text

from app.db import single, transaction
from app.errors import Invalid, NotFound
from app.keys import Caller
from app.streams import log
from app.streams.position import Position
from app.streams.stream import Item, Stream
from app.tasks.cancel import cancel
from app.tasks.report import report
from app.tasks.submit import submit
from schema.base import new_id
from schema.migrate import migrate
from schema.tasks import EventKind
from tests.fleet import a_step, post_flow, tasks_of
from tests.support import (
    FAILED,
    OWNER,
    SUCCEEDED,
    Aside,
    a_task,
    employ,
    end,
    eventually,
    post_one,
    put,
    running,
    sql,
    start,
    together,
)

pytestmark = pytest.mark.usefixtures("clawq")

ADA = Caller(key_id="k", owner=OWNER, scopes=frozenset({"read"}))
ROOT = Caller(key_id="r", owner="root", scopes=frozenset({"admin"}))


def told(stream: Stream) -> list[Item]:
    """All that a stream tells now."""
    found: list[Item] = []
    while True:
        with single() as db:
            found += stream.look(db)
        if not stream.more:
            return found


def facts(items: Sequence[Item]) -> list[tuple[str, int]]:
    """Task and seq of each."""
    return [(item.event.task_id, item.event.seq) for item in items]


def a_session(owner: str = OWNER) -> str:
    """A session that is open."""
    session_id = new_id()
    sql("INSERT INTO sessions (id, owner, session_type) VALUES (:id, :owner, 'chat')", id=session_id, owner=owner)
    return session_id


def events_of(*task_ids: str) -> list[tuple[str, int]]:
    """What a follower of these tasks has to be told."""
    query = "SELECT task_id, seq FROM events WHERE task_id = ANY(:ids) ORDER BY xid, id"
    return [tuple(row) for row in sql(query, ids=list(task_ids))]


def test_a_task_is_followed_by_seq() -> None:
    task_id = put("succeeded")
    stream = Stream("task", task_id, ADA, None)
    assert [(i.cursor, i.event.kind) for i in told(stream)] == [
        ("1", "accepted"),
        ("2", "queued"),
        ("3", "running"),
        ("4", "succeeded"),
    ]
    assert [i.cursor for i in told(Stream("task", task_id, ADA, "2"))] == ["3", "4"]


def test_a_workflow_is_followed_from_its_beginning_and_from_any_cursor() -> None:
    workflow_id = post_flow(a_step("a"), a_step("b", "a"))
    others = put("succeeded")
    ids = [row.id for row in tasks_of(workflow_id).values()]
    whole = told(Stream("workflow", workflow_id, ADA, None))
    assert facts(whole) == events_of(*ids)
    assert others not in {task for task, _ in facts(whole)}
    for place, item in enumerate(whole):
        assert facts(told(Stream("workflow", workflow_id, ADA, item.cursor))) == facts(whole)[place + 1 :]


@pytest.mark.parametrize("kind", ["session", "agent"])
def test_what_comes_after_the_first_look_is_told_once(kind: Any) -> None:
    session_id, agent_id = a_session(), employ()
    stream = Stream(kind, session_id if kind == "session" else agent_id, ADA, None)
    first = post_one(session_id=session_id)
    seen = told(stream)
    end((start(first), SUCCEEDED))
    second = post_one(session_id=session_id)
    seen += told(stream)
    end((start(second), FAILED))
    seen += told(stream)
    wanted = events_of(first, second)
    if kind == "agent":
        # An agent has nothing to do with a task before it is admitted.
        wanted = [(task, seq) for task, seq in wanted if seq > 1]
    assert facts(seen) == wanted
    assert told(stream) == []


def test_an_agent_s_stream_holds_what_happened_while_a_task_was_its_own() -> None:
    first, second = employ(agent_id="first"), employ(agent_id="second")
    sql("UPDATE agents SET status = 'inactive' WHERE id = 'second'")
    task_id = post_one(max_attempts=2)
    ours = start(task_id)
    end((ours, FAILED))
    sql("UPDATE agents SET status = CASE id WHEN 'second' THEN 'active' ELSE 'inactive' END")
    end((start(task_id), SUCCEEDED))
    kinds = {a: [i.event.kind for i in told(Stream("agent", a, ADA, None))] for a in (first, second)}
    assert kinds == {"first": ["queued", "running", "retrying"], "second": ["queued", "running", "succeeded"]}


def test_an_event_whose_transaction_began_earlier_and_ended_later_is_not_skipped() -> None:
    session_id = a_session()
    stream = Stream("session", session_id, ADA, None)
    told(stream)
    go = threading.Event()

    def dawdle(db: Any) -> None:
        db.execute(text("SELECT pg_current_xact_id()"))
        go.wait(30)

    late = Aside(dawdle)
    eventually(lambda: sql("SELECT 1 FROM pg_stat_activity WHERE pid = :pid AND backend_xid IS NOT NULL", pid=late.pid))
    task_id = post_one(session_id=session_id)
    assert told(stream) == [], "kept back: an earlier transaction might still write before it"
    with single() as db:
        assert log.changed(db, Position(), agents=False).waiting
    go.set()
    late.join()
    assert facts(told(stream)) == [(task_id, 1)]


def test_whatever_ends_when_each_follower_is_told_all_of_it_in_one_order() -> None:
    """Writers at once with transactions of any length; followers that begin anew again and again."""
    session_id = a_session()
    dice = random.Random(5)
    waits = [dice.random() * 0.01 for _ in range(60)]

    def write(part: int) -> None:
        for wait_s in waits[part::3]:
            with transaction() as db:
                submit(db, OWNER, [a_task(session_id=session_id), a_task(session_id=session_id)])
                threading.Event().wait(wait_s)

    def follow() -> list[tuple[str, int]]:
        cursor, seen = None, []
        for _ in itertools.count():
            stream = Stream("session", session_id, ADA, cursor)
            with single() as db:
                for item in [*stream.look(db), *stream.look(db)]:
                    cursor = item.cursor
                    seen.append((item.event.task_id, item.event.seq))
            if len(seen) >= 120:
                return seen

    results = together(*(lambda part=part: write(part) for part in range(3)), follow, follow)
    order = [tuple(r) for r in sql("SELECT task_id, seq FROM events ORDER BY xid, id")]
    assert results[3:] == [order, order]


def test_a_window_that_is_full_is_gone_on_from(clawq: pytest.MonkeyPatch) -> None:
    clawq.setattr(log, "WINDOW", 3)
    clawq.setattr("app.streams.stream._LIMIT", 2)
    session_id = a_session()
    employ()
    for _ in range(4):
        end((start(post_one()), SUCCEEDED))
    ids = [post_one(session_id=session_id) for _ in range(5)]
    stream = Stream("session", session_id, ADA, None)
    assert facts(told(stream)) == [(task_id, 1) for task_id in ids]
    for _ in range(4):
        end((start(post_one()), SUCCEEDED))
    more = [post_one(session_id=session_id) for _ in range(5)]
    assert facts(told(stream)) == events_of(*ids, *more)[5:]
    agent = Stream("agent", "execution_agent", ADA, None)
    assert len(told(agent)) == 8 * 3 + len(ids)


@pytest.mark.parametrize("kind", ["task", "workflow", "session"])
def test_another_owner_s_thing_is_not_there(kind: Any) -> None:
    theirs = {"task": lambda: post_one(owner="bob"), "session": lambda: a_session("bob"), "workflow": _bobs_flow}
    for an_id in (theirs[kind](), "none"):
        with pytest.raises(NotFound, match=f"No {kind} {an_id}"), single() as db:
            Stream(kind, an_id, ADA, None).check(db)


def _bobs_flow() -> str:
    workflow_id = post_flow(a_step("a"))
    sql("UPDATE workflows SET owner = 'bob'")
    sql("UPDATE tasks SET owner = 'bob'")
    return workflow_id


def test_of_an_agent_one_s_own_tasks_are_shown() -> None:
    employ()
    ours, theirs = post_one(), post_one(owner="bob")
    start(ours)
    start(theirs)
    assert {task for task, _ in facts(told(Stream("agent", "execution_agent", ADA, None)))} == {ours}
    assert {task for task, _ in facts(told(Stream("agent", "execution_agent", ROOT, None)))} == {ours, theirs}


@pytest.mark.parametrize("after", ["x", "1", "-1-2", "1-2-3", "1" * 19 + "-1", "1-١", "1-2 "])
def test_a_cursor_that_is_not_ours_is_refused(after: str) -> None:
    with pytest.raises(Invalid):
        Stream("session", a_session(), ADA, after)


@pytest.mark.parametrize("after", ["x", "-1", "1.5", "9" * 19, "1-2"])
def test_a_seq_that_is_none_is_refused(after: str) -> None:
    with pytest.raises(Invalid):
        Stream("task", post_one(), ADA, after)


@pytest.mark.parametrize("after", ["2", "9" * 18])
def test_a_seq_that_a_task_has_not_come_to_is_refused(after: str) -> None:
    with pytest.raises(Invalid, match="no such event"), single() as db:
        Stream("task", post_one(), ADA, after).check(db)


def test_a_cursor_of_another_database_is_refused() -> None:
    with pytest.raises(Invalid, match="not of this database"), single() as db:
        Stream("session", a_session(), ADA, f"{10**17}-1").check(db)


def test_events_of_a_task_come_in_their_order_whichever_transaction_began_first() -> None:
    session_id = a_session()
    ours = running(session_id=session_id)
    go = threading.Event()

    def late(db: Any) -> None:
        db.execute(text("SELECT pg_current_xact_id()"))
        go.wait(30)
        cancel(db, ours.id)

    earlier = Aside(late)
    eventually(
        lambda: sql("SELECT 1 FROM pg_stat_activity WHERE pid = :pid AND backend_xid IS NOT NULL", pid=earlier.pid)
    )
    with transaction() as db:
        report(db, ours.id, ours.attempt, [(EventKind.LOG, {"text": "x"})])
    go.set()
    earlier.join()
    assert facts(told(Stream("session", session_id, ADA, None))) == [(ours.id, seq) for seq in range(1, 6)]


def test_a_look_that_fails_has_not_happened(clawq: pytest.MonkeyPatch) -> None:
    task_id, session_id = put("succeeded"), a_session()
    post_one(session_id=session_id)
    for stream in (Stream("task", task_id, ADA, None), Stream("session", session_id, ADA, None)):
        with clawq.context() as failing, single() as db:
            failing.setattr(log, "secure", _fail)
            with pytest.raises(OSError, match="gone"):
                stream.look(db)
        assert told(stream)[0].event.seq == 1


def _fail(_: Any) -> None:
    raise OSError("gone")


def test_what_is_told_is_on_the_disk() -> None:
    ours = running()
    stream = Stream("task", ours.id, ADA, "3")
    with transaction() as db:
        # This commits without waiting.
        report(db, ours.id, ours.attempt, [(EventKind.LOG, {"text": "x"})])
    (written,) = sql("SELECT pg_current_wal_insert_lsn() AS upto")
    with single() as db:
        # As outside of tests, where nothing else is said.
        db.execute(text("SET synchronous_commit = on"))
        assert len(stream.look(db)) == 1
        db.execute(text("RESET synchronous_commit"))
    assert sql("SELECT pg_current_wal_flush_lsn() >= CAST(:upto AS pg_lsn) AS done", upto=written.upto)[0].done


@pytest.mark.parametrize("kind", ["task", "session", "agent"])
def test_a_page_holds_no_more_than_it_may(clawq: pytest.MonkeyPatch, kind: Any) -> None:
    clawq.setattr(log, "MOST_BYTES", 1000)
    session_id = a_session()
    ours = running(session_id=session_id)
    with transaction() as db:
        report(db, ours.id, ours.attempt, [(EventKind.LOG, {"text": "x" * 700})] * 6)
    stream = Stream(kind, {"task": ours.id, "session": session_id, "agent": "execution_agent"}[kind], ADA, None)
    with single() as db:
        pages = [stream.look(db)]
        while stream.more:
            pages.append(stream.look(db))
    assert max(sum(len(str(item.event.data)) for item in page) for page in pages) < 2500
    seqs = [item.event.seq for page in pages for item in page]
    assert seqs == list(range(10 - len(seqs), 10))
    assert len(seqs) >= 8


def test_a_workflow_that_goes_on_has_not_ended() -> None:
    workflow_id = post_flow(a_step("a"))
    stream = Stream("workflow", workflow_id, ADA, None)
    told(stream)
    sql("UPDATE workflows SET status = 'failed'")
    with single() as db:
        assert not stream.has_ended(db)
    sql("UPDATE workflows SET status = 'running'")
    told(stream)
    with single() as db:
        assert not stream.has_ended(db)
    post_one()
    sql("UPDATE workflows SET status = 'succeeded'")
    with single() as db:
        assert not stream.has_ended(db), "what came with this end may still be untold"


def test_after_a_restore_into_another_cluster_what_is_there_comes_first(postgres_url: str) -> None:
    session_id = a_session()
    old = [post_one(session_id=session_id) for _ in range(3)]
    # As if this cluster's count were far behind that of the one where they were written.
    sql("UPDATE events SET xid = xid + 1000000000")
    migrate(postgres_url)
    new = post_one(session_id=session_id)
    assert facts(told(Stream("session", session_id, ADA, None))) == [(task_id, 1) for task_id in (*old, new)]


def test_the_end_of_a_task_and_of_a_workflow() -> None:
    task_id = put("running")
    stream = Stream("task", task_id, ADA, None)
    told(stream)
    with single() as db:
        assert not stream.has_ended(db)
    assert Stream("agent", "execution_agent", ADA, None).has_ended(db) is False
    done = put("succeeded")
    stream = Stream("task", done, ADA, None)
    with single() as db:
        assert not stream.has_ended(db), "nothing was told yet"
    told(stream)
    with single() as db:
        assert stream.has_ended(db)
    workflow_id = post_flow(a_step("a"))
    flow = Stream("workflow", workflow_id, ADA, None)
    told(flow)
    with single() as db:
        assert not flow.has_ended(db)
    sql("UPDATE workflows SET status = 'succeeded'")
    with single() as db:
        assert not flow.has_ended(db), "what came with its end may still be untold"
    told(flow)
    with single() as db:
        assert flow.has_ended(db)
