"""Postgres that dies, ends sessions, takes no more of them, and is silent about what it committed."""

from __future__ import annotations

import pytest

from tests.chaos.rig import END_SESSIONS, EXECUTION, Rig
from tests.chaos.tasks import Tasks, new_key
from tests.support import eventually


def test_the_embedded_postgres_is_durable(rig: Rig, tasks: Tasks) -> None:
    query = "SELECT name FROM pg_settings WHERE setting = 'on' AND name = ANY(%(names)s)"
    names = {"fsync", "full_page_writes", "synchronous_commit"}
    assert {row.name for row in tasks.inside.sql(query, names=list(names))} == names
    tasks.settle()


def test_a_postgres_killed_under_load_loses_nothing_that_was_accepted(rig: Rig, tasks: Tasks) -> None:
    with tasks.load():
        tasks.await_accepted(20)
        rig.kill("postgres", restart=False)
        tasks.await_refused(2)
        rig.start_engine("postgres")
        tasks.await_accepted(40)
    assert {answer.status for answer in tasks.answers} == {202, 503}
    assert tasks.settle() == {"succeeded": len(tasks.accepted)}


def test_sessions_ended_by_an_administrator_lose_nothing(rig: Rig, tasks: Tasks) -> None:
    with tasks.load():
        for round_ in range(1, 5):
            tasks.inside.sql(END_SESSIONS)
            tasks.await_accepted(15 * round_)
    assert {answer.status for answer in tasks.answers} <= {202, 503}
    assert tasks.settle() == {"succeeded": len(tasks.accepted)}


def test_a_commit_without_an_answer_is_not_done_twice(rig: Rig, tasks: Tasks) -> None:
    key, link = new_key(), rig.link("api", "postgres")
    link.trap(b"EXECUTE clawq_submit", b"COMMIT", deliver=True)
    first = tasks.aside(key)
    link.await_sprung()
    link.cut()
    assert first.result().status == 503
    (row,) = tasks.rows()
    assert tasks.post(key) == row.id
    assert tasks.settle() == {"succeeded": 1}


@pytest.mark.parametrize(
    "words",
    # A claim is one statement, which commits by itself.
    [(b"EXECUTE clawq_claim",), (b"EXECUTE clawq_finish", b"COMMIT")],
    ids=["claim", "finish"],
)
def test_a_worker_s_commit_without_an_answer_is_not_done_twice(
    rig: Rig, tasks: Tasks, words: tuple[bytes, ...]
) -> None:
    links = [rig.link(worker, "postgres") for worker in EXECUTION]
    for link in links:
        link.trap(*words, deliver=True)
    tasks.echo(20)
    eventually(lambda: any(link.sprung for link in links))
    for link in links:
        link.cut()
    assert tasks.settle() == {"succeeded": 20}


def test_a_postgres_without_free_connections_pushes_back_and_loses_nothing(rig: Rig, tasks: Tasks) -> None:
    with tasks.load():
        tasks.await_accepted(20)
        with rig.postgres_full():
            tasks.await_refused(5)
        tasks.await_accepted(60)
    assert {answer.status for answer in tasks.answers} == {202, 503}
    assert tasks.settle() == {"succeeded": len(tasks.accepted)}
