"""Worlds: states of the whole database that a test keeps, and goes back to as often as it likes."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Table, text

from app.db import single
from app.prepared import prepared
from schema.models import Base
from tests.support import sql

TABLES = tuple(Base.metadata.sorted_tables)
_SCHEMA = "kept"
#: A number for each table, another one once any row of it has been written.
_MARKS = prepared(
    "test_marks",
    "\nUNION ALL\n".join(
        f"SELECT '{table.name}' AS name, sum(hashtextextended(t.ctid::text || t.xmin::text, 0)) AS mark"
        f" FROM {table.name} t"
        for table in TABLES
    ),
    # Postgres would start processes for what takes it a millisecond.
    before="SET LOCAL max_parallel_workers_per_gather = 0;",
)
#: Raised by each transaction that writes.
_NEWEST = prepared("test_newest", "SELECT CAST(pg_snapshot_xmax(pg_current_snapshot()) AS text) AS newest")


@contextmanager
def kept() -> Iterator[None]:
    """Worlds can be kept within this block."""
    sql(f"CREATE SCHEMA {_SCHEMA}")
    try:
        yield
    finally:
        sql(f"DROP SCHEMA {_SCHEMA} CASCADE")


class World:
    """The database as it is when this is made."""

    def __init__(self, name: str) -> None:
        self._name = name
        for table in TABLES:
            sql(f"CREATE UNLOGGED TABLE {self._copy(table.name)} AS TABLE {table.name}")
        self._note()

    def changed(self) -> set[str]:
        """The tables that were written since this came."""
        # Nearly always nobody has written at all.
        if (newest := _newest()) == self._newest:
            return set()
        marks = _marks()
        changed = {name for name, mark in self._marks.items() if marks[name] != mark}
        if not changed:
            self._newest = newest
        return changed

    def come(self, changed: Collection[str] | None = None) -> None:
        """Let everything be as it was; `changed`: the tables that were written, if that is known."""
        again = set(self.changed() if changed is None else changed)
        for table in TABLES:
            # Rows that refer to others went with them.
            if any(key.column.table.name in again for key in table.foreign_keys):
                again.add(table.name)
        tables = [table for table in TABLES if table.name in again]
        # Row by row: whole tables, hundreds of times, would leave more dead rows than there are living.
        statements = [*map(self._without_new, reversed(tables)), *map(self._with_old, tables)]
        if statements:
            _run(";\n".join(statements))
        self._note()

    def _without_new(self, table: Table) -> str:
        same = " AND ".join(f'k."{column.name}" = t."{column.name}"' for column in table.primary_key)
        return f"DELETE FROM {table.name} t WHERE NOT EXISTS (SELECT FROM {self._copy(table.name)} k WHERE {same})"

    def _with_old(self, table: Table) -> str:
        names = [f'"{column.name}"' for column in table.columns if column.computed is None]
        keys = [f'"{column.name}"' for column in table.primary_key]
        values = ", ".join(f"{name} = excluded.{name}" for name in names if name not in keys)
        return f"""
            INSERT INTO {table.name} ({", ".join(names)}) OVERRIDING SYSTEM VALUE SELECT {", ".join(names)}
            FROM {self._copy(table.name)} k WHERE k::text NOT IN (SELECT t::text FROM {table.name} t)
            ON CONFLICT ({", ".join(keys)}) DO {f"UPDATE SET {values}" if values else "NOTHING"}
        """

    def _note(self) -> None:
        self._marks, self._newest = _marks(), _newest()

    def _copy(self, table: str) -> str:
        return f"{_SCHEMA}.{self._name}_{table}"


def _run(statement: Any) -> list[Any]:
    with single() as db:
        result = db.execute(text(statement) if isinstance(statement, str) else statement)
        return list(result) if result.returns_rows else []


def _marks() -> dict[str, Any]:
    return {row.name: row.mark for row in _run(_MARKS)}


def _newest() -> str:
    return str(_run(_NEWEST)[0].newest)
