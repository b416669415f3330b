"""Find: an owner's own workflows page by page, how they stand, and their graphs."""

from __future__ import annotations

import pytest
from sqlalchemy import event

from app.db import engine, transaction
from app.errors import Invalid, NotFound
from app.workflows import find, picture
from schema.sessions import Session
from schema.tasks import TaskStatus
from tests.integration.workflows.rows import item, member, workflow
from tests.support import OWNER, sql

pytestmark = pytest.mark.usefixtures("clawq")


def found(limit: int = 100, **wanted: object) -> list[str]:
    with transaction() as db:
        return [one.id for one, _ in find.find(db, find.Filter(**wanted), None, limit)[0]]  # type: ignore[arg-type]


def standing(workflow_id: str) -> find.Standing:
    with transaction() as db:
        return find.standings(db, [workflow_id])[workflow_id]


def drawn(workflow_id: str) -> picture.Picture:
    with transaction() as db:
        return picture.graph(db, workflow_id)


def test_an_owner_sees_no_workflow_of_another() -> None:
    mine, hers = workflow(), workflow(owner="eve")
    with transaction() as db:
        assert find.see(db, mine, OWNER).id == find.look(db, mine, OWNER).id == mine
        assert find.see(db, hers, None).id == hers
        for workflow_id in (hers, "none", ""):
            for look in (find.see, find.look):
                with pytest.raises(NotFound):
                    look(db, workflow_id, OWNER)
    assert found(owner=OWNER) == [mine]
    assert set(found()) == {mine, hers}


@pytest.mark.parametrize("status", ["pending", "running", "paused", "succeeded", "failed", "cancelled"])
def test_a_workflow_has_ended_in_its_last_three_states(status: str) -> None:
    with transaction() as db:
        assert find.has_ended(db, workflow(status)) == (status in ("succeeded", "failed", "cancelled"))
        assert find.has_ended(db, "gone")


def test_each_filter_finds_its_own() -> None:
    with transaction() as db:
        db.add(Session(id="s", owner=OWNER, session_type="chat"))
    plain = workflow()
    failed = workflow("failed")
    named = workflow(name="weekly")
    labelled = workflow(labels={"team": "x"})
    session = workflow(session_id="s")
    assert found(status="failed") == [failed]
    assert found(name="weekly") == [named]
    assert found(name="week") == []
    assert found(label=("team", "x")) == [labelled]
    assert found(label=("team", "y")) == []
    assert found(session_id="s") == [session]
    assert found(owner=OWNER, status="running", name="nightly") == [session, labelled, plain]


@pytest.mark.parametrize("size", [1, 3, 12, 25])
def test_pages_hold_every_workflow_once_newest_first(size: int) -> None:
    ids = [workflow() for _ in range(12)]
    assert pages(size) == [ids[::-1][start : start + size] for start in range(0, 12, size)]


def test_a_foreign_cursor_is_refused() -> None:
    with transaction() as db, pytest.raises(Invalid, match="cursor"):
        find.find(db, find.Filter(), "x", 10)


def test_a_page_ends_early_before_it_gets_heavy() -> None:
    ids = [workflow(input={"text": "x" * 900_000}) for _ in range(6)]
    assert [len(page) for page in pages(100)] == [4, 2]
    assert [one for page in pages(100) for one in page] == ids[::-1]


def test_a_page_ends_early_before_too_many_tasks_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(find, "MOST_TASKS", 4)
    ids = [workflow() for _ in range(5)]
    for workflow_id, tasks in zip(ids, (2, 0, 3, 9, 1), strict=True):
        for n in range(tasks):
            member(workflow_id, f"n{n}")
    assert pages(100) == [[ids[4]], [ids[3]], [ids[2], ids[1]], [ids[0]]]


def test_a_list_reads_no_documents() -> None:
    workflow()
    with transaction() as db:
        ((one, _),), _ = find.find(db, find.Filter(), None, 10)
        assert "document" not in one.__dict__


def pages(size: int) -> list[list[str]]:
    seen: list[list[str]] = []
    cursor = None
    with transaction() as db:
        while True:
            page, cursor = find.find(db, find.Filter(), cursor, size)
            seen.append([one.id for one, _ in page])
            if cursor is None:
                return seen


def test_tasks_are_counted_by_state() -> None:
    one, other, empty = workflow(), workflow(), workflow()
    for place, status in enumerate(["pending", "running", "running", *TaskStatus]):
        member(one, f"n{place}", status)
    member(other, "a", "failed")
    with transaction() as db:
        told = {i: standing.counts for i, standing in find.standings(db, [one, other, empty]).items()}
    assert told[one] == {status: 1 for status in TaskStatus} | {"pending": 2, "running": 3}
    assert told[other] == {status: 0 for status in TaskStatus} | {"failed": 1}
    assert set(told[empty].values()) == {0}


def test_progress_is_the_part_that_has_ended_and_100_only_at_the_end() -> None:
    one = workflow()
    assert standing(one).progress("pending") == 0
    for place, status in enumerate(("succeeded", "failed", "skipped", "running", "queued", "pending", "cancelled")):
        member(one, f"n{place}", status)
    assert standing(one).progress("running") == 57
    sql("UPDATE tasks SET status = 'succeeded'")
    assert standing(one).progress("running") == 99
    assert standing(one).progress("succeeded") == standing(workflow()).progress("cancelled") == 100


def test_what_a_map_adds_does_not_set_progress_back() -> None:
    one = workflow()
    member(one, "a", "succeeded")
    map_id = member(one, "m")
    assert standing(one).progress("running") == 50
    for place in range(8):
        item(one, map_id, "m", place, "succeeded" if place < 6 else "pending")
    assert standing(one).progress("running") == 87
    assert standing(one).counts["succeeded"] == 7
    sql("UPDATE tasks SET status = 'failed' WHERE id = :id", id=map_id)
    assert standing(one).progress("running") == 99


def test_a_graph_has_nodes_and_edges_with_items_behind_their_map() -> None:
    one = workflow()
    a = member(one, "a", "succeeded", attempt=2, progress=100)
    b = member(one, "b", "failed", after=[a], error="It broke.")
    m = member(one, "m", after=[a])
    member(one, "z", after=[b, m])
    item(one, m, "m", 1)
    m0 = item(one, m, "m", 0, "running")
    member(workflow(), "elsewhere", after=[a])
    graph = drawn(one)
    assert [node.key for node in graph.nodes] == ["a", "b", "m", "m[0]", "m[1]", "z"]
    assert sorted(graph.edges) == [("a", "b"), ("a", "m"), ("b", "z"), ("m", "z"), ("m[0]", "m"), ("m[1]", "m")]
    assert graph.left_out == 0
    first, second, _, fourth = graph.nodes[:4]
    assert (first.task_id, first.task_type, first.status, first.attempt, first.progress) == (
        a, "echo", "succeeded", 2, 100,
    )  # fmt: skip
    assert (second.error, second.mapped_from) == ("It broke.", None)
    assert (fourth.task_id, fourth.mapped_from) == (m0, "m")


def test_an_empty_workflow_has_an_empty_graph() -> None:
    graph = drawn(workflow())
    assert (graph.nodes, graph.edges, graph.critical_path, graph.left_out) == ([], [], [], 0)


def ran(seconds: float) -> dict[str, str]:
    return {"started_at": "now() - interval '1 hour'", "completed_at": f"now() - interval '{3600 - seconds} seconds'"}


def test_the_critical_path_is_where_the_time_went() -> None:
    one = workflow()
    a = member(one, "a", "succeeded", **ran(10))
    b = member(one, "b", "succeeded", after=[a], **ran(50))
    c = member(one, "c", "running", after=[a], started_at="now() - interval '40 seconds'")
    member(one, "d", after=[b])
    member(one, "e", after=[c])
    graph = drawn(one)
    assert graph.critical_path == ["a", "b", "d"]
    assert [node.duration_s and round(node.duration_s) for node in graph.nodes] == [10, 50, 40, None, None]
    sql("UPDATE tasks SET started_at = started_at - interval '20 seconds' WHERE id = :id", id=c)
    assert drawn(one).critical_path == ["a", "c", "e"]


def test_a_task_that_waits_for_another_try_takes_no_time() -> None:
    one = workflow()
    member(one, "a", "succeeded", **ran(1))
    member(one, "b", "pending", started_at="now() - interval '40 seconds'", attempt=1)
    assert drawn(one).critical_path == ["a"]


def test_items_count_on_the_critical_path_and_their_map_does_not_again() -> None:
    one = workflow()
    a = member(one, "a", "succeeded", **ran(10))
    m = member(one, "m", "succeeded", after=[a], **ran(30))
    member(one, "z", "succeeded", after=[m], **ran(5))
    # Longer than the way over the item, shorter than that and the time of the map.
    member(one, "y", "succeeded", after=[a], **ran(40))
    for place, seconds in enumerate((20, 30, 25)):
        item(one, m, "m", place, "succeeded", **ran(seconds))
    assert drawn(one).critical_path == ["a", "y"]
    sql("UPDATE tasks SET started_at = started_at - interval '6 seconds' WHERE key = 'm[1]'")
    assert drawn(one).critical_path == ["a", "m[1]", "m", "z"]


def test_a_graph_leaves_items_out_before_it_gets_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(picture, "MOST_NODES", 3)
    one = workflow()
    m = member(one, "m")
    for place in range(3):
        item(one, m, "m", place)
    member(one, "z", after=[m])
    graph = drawn(one)
    assert [node.key for node in graph.nodes] == ["m", "m[0]", "z"]
    assert graph.left_out == 2


def test_a_graph_of_ten_thousand_tasks_loads_no_payloads() -> None:
    one = workflow()
    sql(
        """
        INSERT INTO tasks (id, owner, workflow_id, key, task_type, description, payload, result, queue, dependencies)
        SELECT lpad(n::text, 36, '0'), 'ada', :id, 'n' || n, 'echo', '', '{}', '{}', 'execution',
               CASE WHEN n > 0 THEN jsonb_build_array(lpad((n - 1)::text, 36, '0')) END
        FROM generate_series(0, 9999) n
        """,
        id=one,
    )
    asked: list[str] = []
    event.listen(engine(), "before_cursor_execute", lambda *given: asked.append(given[2]))
    graph = drawn(one)
    assert (len(graph.nodes), len(graph.edges), len(graph.critical_path)) == (10_000, 9_999, 10_000)
    (statement,) = asked
    assert "payload" not in statement
    assert "result" not in statement
