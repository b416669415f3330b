"""How Postgres finds the rows of workflows: by their keys, whatever it believes of the tables."""

from __future__ import annotations

import re

import pytest
from sqlalchemy import text

from app.db import statements
from tests.fleet import a_step, post_flow, work

_INDEX = re.compile(r"(?:Index (?:Only )?Scan using|Bitmap Index Scan on) ((?:tasks|workflows|edges)\w+)")


@pytest.mark.parametrize("name", ["carry_below", "enter_come_to", "enter"])
def test_what_a_canvas_brings_is_found_by_id_even_where_all_else_looks_as_cheap(name: str) -> None:
    # Tables that hold next to nothing: going through all that is pending, or open, looks as good as any way.
    post_flow(a_step("a"), a_step("b", "a"))
    work()
    with statements() as db:
        prepared = "SELECT cardinality(parameter_types) FROM pg_prepared_statements WHERE name = :name"
        parameters = ", ".join(["NULL"] * db.execute(text(prepared), {"name": f"clawq_{name}"}).scalar_one())
        plan = "\n".join(db.execute(text(f"EXPLAIN EXECUTE clawq_{name} ({parameters})")).scalars())
    used = set(_INDEX.findall(plan))
    assert "tasks_pkey" in used
    assert used <= {"tasks_pkey", "workflows_pkey", "edges_pkey"}
