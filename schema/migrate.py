"""Bring a database to the newest schema. Safe to run from several processes at once."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import NullPool, create_engine, text

#: Any constant will do; it only has to be the same in every process that migrates.
_LOCK = 0x636C617771

# Events count the transactions of their cluster (schema/tasks.py). After a restore from a dump they may lie in the
# future of this one: then all that are there come first, in their own order.
_RESTORED = text(
    """
    UPDATE events SET xid = 0
    WHERE EXISTS (SELECT FROM events WHERE xid >= (pg_snapshot_xmax(pg_current_snapshot())::text)::bigint)
    """
)


def migrate(database_url: str, revision: str = "head") -> None:
    """Apply every migration up to `revision`, all in one transaction.

    An advisory lock lets one process at a time migrate; a lock that a live query holds for more than 5 s, or a
    statement of more than 60 s, ends the migration unapplied rather than block the queue.

    Raises:
        sqlalchemy.exc.DBAPIError: the database is not reachable, or a time-out struck.
    """
    engine = create_engine(database_url, poolclass=NullPool)
    with engine.begin() as connection:
        # Waiting for the other migrator has no time-out: it is bounded by that one's own.
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
        connection.execute(text("SET LOCAL lock_timeout = '5s'; SET LOCAL statement_timeout = '60s'"))
        config = _config()
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
        if revision == "head":
            connection.execute(_RESTORED)


def is_current(database_url: str) -> bool:
    """Whether the database stands at the newest migration."""
    engine = create_engine(database_url, poolclass=NullPool)
    with engine.connect() as connection:
        return MigrationContext.configure(connection).get_current_revision() == newest()


def newest() -> str | None:
    """The id of the newest migration."""
    return ScriptDirectory.from_config(_config()).get_current_head()


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    return config
