"""Prepared statements: planned once a connection, and with a plan that lasts."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import Connection, text

from app.db import single, statements
from app.errors import Conflict
from app.keys import Caller
from app.prepared import prepared
from app.tasks.submit import submit_each
from tests.support import SUCCEEDED, a_task, employ, end, post, scalar, sql, start

pytestmark = pytest.mark.usefixtures("clawq")

_SQUARE = prepared("test_square", "SELECT CAST(:n AS int) * :n AS square, '100%' AS share")


def known(db: Connection) -> set[str]:
    """What this connection has prepared."""
    return set(db.execute(text("SELECT name FROM pg_prepared_statements")).scalars())


def test_a_statement_is_prepared_at_its_first_use_and_then_executed() -> None:
    with single() as db:
        before = db.execute(text("SELECT count(*) FROM pg_prepared_statements")).scalar_one()
        for n in (2, 3):
            assert db.execute(_SQUARE, {"n": n}).one() == (n * n, "100%")
        assert db.execute(text("SELECT count(*) FROM pg_prepared_statements")).scalar_one() == before + 1


def test_it_outlives_the_transaction_that_prepared_it() -> None:
    def broken_off() -> None:
        with statements() as db:
            db.execute(_SQUARE, {"n": 2})
            raise Conflict

    with pytest.raises(Conflict):
        broken_off()
    with statements() as db:
        assert "clawq_test_square" in known(db)
        assert db.execute(_SQUARE, {"n": 4}).one().square == 16


def test_what_comes_before_is_sent_each_time() -> None:
    looked = prepared(
        "test_before", "SELECT current_setting('enable_sort') AS sort", before="SET LOCAL enable_sort = off;"
    )
    for _ in range(2):
        with statements() as db:
            assert db.execute(looked).one().sort == "off"


@pytest.fixture
def a_new_column() -> Iterator[None]:
    """What a migration does beside running processes; the connections stay."""
    post(a_task())
    yield
    sql("ALTER TABLE tasks DROP COLUMN IF EXISTS newer")


def test_a_table_that_has_got_a_column_is_no_matter(a_new_column: None) -> None:
    sql("INSERT INTO api_keys (id, name, owner, secret_sha256, scopes) VALUES ('k', 'k', 'ada', '', '{submit}')")
    caller = Caller("k", "ada", frozenset(("submit",)))
    with statements() as db:
        submit_each(db, [(caller, a_task())])
        db.execute(text("ALTER TABLE tasks ADD COLUMN newer int"))
        (row,) = submit_each(db, [(caller, a_task())])
    assert row.status == "pending"


def test_no_plan_that_is_kept_scans_a_table() -> None:
    employ()
    with statements():
        pass
    end((start(post(a_task())[0]), SUCCEEDED))
    with statements() as db:
        kept = db.execute(
            text("SELECT name, cardinality(parameter_types) AS n FROM pg_prepared_statements WHERE name !~ 'test'")
        ).all()
        plans = {
            name: "\n".join(
                db.execute(text(f"EXPLAIN EXECUTE {name}" + f" ({', '.join(['NULL'] * n)})" * (n > 0))).scalars()
            )
            for name, n in kept
        }
    assert {"clawq_submit", "clawq_admit_queue", "clawq_claim", "clawq_finish", "clawq_release"} <= set(plans)
    # Made on tables that hold next to nothing, where a scan looks cheap.
    assert scalar("SELECT count(*) FROM tasks") == 1
    assert [name for name, plan in plans.items() if "Seq Scan" in plan] == []
