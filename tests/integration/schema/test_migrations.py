"""Migrations on every Postgres of this machine: the deployment design's tables, and ours around them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, Engine, NullPool, create_engine, text
from sqlalchemy.exc import OperationalError

import schema
from app.errors import ClawqError
from app.local import accounts, services
from app.local.postgres import MAJORS, installs
from schema import migrate as migrate_
from schema.migrate import is_current, migrate, newest
from schema.models import Base
from tests.conftest import missing
from tests.support import eventually, together

_TIME = "timestamp with time zone"
_VECTOR = "[" + ",".join(["0.5"] * 1536) + "]"
_ID, _WORD = "character varying(255)", "character varying(50)"

#: The deployment design's tables: column → (type, nullable, default). Its TIMESTAMPs are with a zone here, and
#: a message to a group chat has no destination.
DESIGN: dict[str, dict[str, tuple[str, bool, str | None]]] = {
    "agents": {
        "id": (_ID, False, None), "name": (_ID, False, None), "role": (_ID, False, None),
        "goal": ("text", False, None), "backstory": ("text", True, None), "agent_type": (_ID, False, None),
        "status": (_WORD, False, "inactive"), "configuration": ("jsonb", True, None),
        "created_at": (_TIME, False, "now()"), "updated_at": (_TIME, False, "now()"),
    },
    "tasks": {
        "id": (_ID, False, None), "description": ("text", False, None), "task_type": (_WORD, False, None),
        "priority": (_WORD, False, "normal"), "status": (_WORD, False, "pending"), "progress": ("integer", True, "0"),
        "assigned_to": (_ID, True, None), "deadline": (_TIME, True, None), "dependencies": ("jsonb", True, None),
        "result": ("jsonb", True, None), "error": ("text", True, None), "created_at": (_TIME, False, "now()"),
        "updated_at": (_TIME, False, "now()"), "completed_at": (_TIME, True, None),
    },
    "messages": {
        "id": (_ID, False, None), "source_agent_id": (_ID, False, None), "destination_agent_id": (_ID, True, None),
        "message_type": (_WORD, False, None), "content": ("text", False, None), "metadata": ("jsonb", True, None),
        "status": (_WORD, False, "pending"), "created_at": (_TIME, False, "now()"), "sent_at": (_TIME, True, None),
        "received_at": (_TIME, True, None),
    },
    "sessions": {
        "id": (_ID, False, None), "user_id": (_ID, True, None), "session_type": (_WORD, False, None),
        "status": (_WORD, False, "active"), "metadata": ("jsonb", True, None), "created_at": (_TIME, False, "now()"),
        "updated_at": (_TIME, False, "now()"), "closed_at": (_TIME, True, None),
    },
    "groupchats": {
        "id": (_ID, False, None), "name": (_ID, False, None), "description": ("text", True, None),
        "agents": ("jsonb", False, None), "status": (_WORD, False, "active"), "created_at": (_TIME, False, "now()"),
        "updated_at": (_TIME, False, "now()"),
    },
    "memory": {
        "id": (_ID, False, None), "memory_type": (_WORD, False, None), "content": ("text", False, None),
        "metadata": ("jsonb", True, None), "importance": ("double precision", True, "0.5"),
        "created_at": (_TIME, False, "now()"), "expires_at": (_TIME, True, None),
    },
}  # fmt: skip

#: The deployment design's indexes: table → name → columns. Ours carry the table's name in front.
DESIGN_INDEXES = {
    "agents": {"idx_agent_type": ["agent_type"], "idx_status": ["status"]},
    "tasks": {"idx_status": ["status"], "idx_assigned_to": ["assigned_to"], "idx_created_at": ["created_at"]},
    "messages": {
        "idx_source_agent": ["source_agent_id"], "idx_destination_agent": ["destination_agent_id"],
        "idx_created_at": ["created_at"],
    },
    "sessions": {"idx_user_id": ["user_id"], "idx_status": ["status"], "idx_created_at": ["created_at"]},
    "groupchats": {"idx_status": ["status"]},
    "memory": {
        "idx_memory_type": ["memory_type"], "idx_importance": ["importance"], "idx_created_at": ["created_at"],
    },
}  # fmt: skip
DESIGN_REFERENCES = {
    ("tasks", "assigned_to", "agents"), ("messages", "source_agent_id", "agents"),
    ("messages", "destination_agent_id", "agents"),
}  # fmt: skip

#: What is on this machine; on one without any, the fixture skips.
SERVERS = sorted({(i.source, i.major) for i in installs(accounts.Account()) if i.major in MAJORS}) or [("system", 15)]


@pytest.fixture(scope="module", params=SERVERS, ids=lambda found: f"{found[0]}-{found[1]}")
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A running Postgres whose databases a test makes and drops."""
    source, major = request.param
    try:
        with services.postgres(tmp_path_factory.mktemp("pg"), prefer=source, version=major) as url:
            yield url
    except ClawqError as exc:
        missing(str(exc))


@contextmanager
def fresh(server: str, name: str, template: str = "template1") -> Iterator[str]:
    """An empty database; what the template offers (pgvector where it exists) is in it."""
    admin = create_engine(server, poolclass=NullPool, isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text(f'CREATE DATABASE "{name}" TEMPLATE {template}'))
    try:
        yield server.rsplit("/", 1)[0] + f"/{name}"
    finally:
        with admin.connect() as connection:
            connection.execute(text(f'DROP DATABASE "{name}" WITH (FORCE)'))


@pytest.fixture
def url(server: str, request: pytest.FixtureRequest) -> Iterator[str]:
    """An empty database of the test's own."""
    with fresh(server, re.sub(r"\W+", "_", request.node.name)[:50].lower()) as own:
        yield own


def connected(url: str) -> Engine:
    return create_engine(url, poolclass=NullPool)


def rows(url: str, statement: str, **params: object) -> list[tuple[object, ...]]:
    with connected(url).begin() as connection:
        return [tuple(row) for row in connection.execute(text(statement), params)]


def columns(url: str, table: str) -> dict[str, tuple[str, bool, str | None]]:
    found = rows(
        url,
        """
        SELECT attname, format_type(atttypid, atttypmod), NOT attnotnull, pg_get_expr(adbin, adrelid)
        FROM pg_attribute LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
        WHERE attrelid = CAST(:table AS regclass) AND attnum > 0 AND NOT attisdropped
        """,
        table=table,
    )
    return {name: (kind, null, _plain(default)) for name, kind, null, default in found}  # type: ignore[misc]


def _plain(default: str | None) -> str | None:
    return default and re.sub(r"^'(.*)'::.*$", r"\1", default)


def has_vector(url: str) -> bool:
    return bool(rows(url, "SELECT FROM pg_extension WHERE extname = 'vector'"))


def test_the_design_s_columns_are_there_with_their_types_and_defaults(url: str) -> None:
    migrate(url)
    for table, wanted in DESIGN.items():
        found = columns(url, table)
        assert {name: found.get(name) for name in wanted} == wanted, table


def test_the_design_s_indexes_and_references_are_there(url: str) -> None:
    migrate(url)
    for table, wanted in DESIGN_INDEXES.items():
        for name, on in wanted.items():
            found = rows(
                url,
                "SELECT array_agg(a.attname::text) FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid "
                "AND a.attnum = ANY(i.indkey) WHERE i.indexrelid = to_regclass(:name) "
                "AND i.indrelid = CAST(:table AS regclass)",
                name=f"{table}_{name}",
                table=table,
            )
            assert found == [(on,)], f"{table}_{name}"
    references = rows(
        url,
        "SELECT conrelid::regclass::text, attname::text, confrelid::regclass::text FROM pg_constraint "
        "JOIN pg_attribute ON attrelid = conrelid AND attnum = ANY(conkey) WHERE contype = 'f'",
    )
    assert set(references) >= DESIGN_REFERENCES
    keys = rows(
        url,
        "SELECT conrelid::regclass::text, attname::text FROM pg_constraint "
        "JOIN pg_attribute ON attrelid = conrelid AND attnum = ANY(conkey) WHERE contype = 'p'",
    )
    assert {(table, "id") for table in DESIGN} <= set(keys)


@pytest.mark.filterwarnings("ignore:Did not recognize type 'vector'")
def test_models_and_migrations_are_the_same(url: str) -> None:
    migrate(url)
    with connected(url).connect() as connection:
        context = MigrationContext.configure(
            connection, opts={"compare_type": _same_type, "compare_server_default": True}
        )
        assert compare_metadata(context, Base.metadata) == []


def _same_type(context, inspected, metadata_column, inspected_type, metadata_type) -> bool | None:
    """vector(1536) is how a server with pgvector spells real[]; everything else is compared as Alembic does."""
    is_embedding = (metadata_column.table.name, metadata_column.name) == ("memory", "embedding")
    return False if is_embedding else None


def test_embeddings_are_vectors_where_the_server_has_them_and_numbers_elsewhere(url: str) -> None:
    migrate(url)
    kind, value = ("vector(1536)", _VECTOR) if has_vector(url) else ("real[]", "{0.5,0.25}")
    assert columns(url, "memory")["embedding"] == (kind, True, None)
    insert = "INSERT INTO memory (id, owner, memory_type, content, content_sha256, keywords, embedding) VALUES"
    values = f"('m', 'o', 'semantic', 'c', 'c', 'c', CAST(:value AS {kind}))"
    assert rows(url, f"{insert} {values} RETURNING embedding IS NOT NULL", value=value) == [(True,)]


def test_a_database_without_the_extension_is_migrated_too(server: str) -> None:
    with fresh(server, "from_template0", template="template0") as url:
        assert not has_vector(url)
        migrate(url)
        # Where the server offers it and lets our role add it, it is there now.
        assert columns(url, "memory")["embedding"][0] == ("vector(1536)" if has_vector(url) else "real[]")
        assert is_current(url)


def test_migrating_again_changes_nothing(url: str) -> None:
    assert not is_current(url)
    migrate(url)
    before = rows(url, "SELECT xmin::text, * FROM alembic_version")
    migrate(url)
    assert rows(url, "SELECT xmin::text, * FROM alembic_version") == before
    assert is_current(url)


def test_two_that_migrate_at_once_do_it_once(url: str) -> None:
    assert together(*[partial(migrate, url)] * 4) == [None] * 4
    assert rows(url, "SELECT version_num FROM alembic_version") == [(newest(),)]


def test_a_migrator_waits_for_the_one_before_it(url: str) -> None:
    with connected(url).connect() as other:
        other.execute(text("SELECT pg_advisory_lock(:lock)"), {"lock": migrate_._LOCK})
        results = together(partial(migrate, url), lambda: _until_waiting(url, other))
        assert results == [None, True]
    assert is_current(url)


def _until_waiting(url: str, other: Connection) -> bool:
    waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
    eventually(lambda: rows(url, waiting)[0][0])
    assert not is_current(url)
    other.execute(text("SELECT pg_advisory_unlock(:lock)"), {"lock": migrate_._LOCK})
    return True


def test_a_migration_that_fails_leaves_nothing_behind(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    upgrade = migrate_.command.upgrade

    def half(*args: object) -> None:
        upgrade(*args)
        raise RuntimeError("power cut")

    monkeypatch.setattr(migrate_.command, "upgrade", half)
    with pytest.raises(RuntimeError):
        migrate(url)
    assert rows(url, "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == [(0,)]
    monkeypatch.undo()
    migrate(url)
    assert is_current(url)


def test_a_database_that_is_not_there_is_an_error(server: str) -> None:
    with pytest.raises(OperationalError):
        migrate(server.rsplit("/", 1)[0] + "/none")


def test_the_migrations_are_numbered_one_by_one() -> None:
    folder = Path(schema.__file__).parent / "migrations" / "versions"
    names = sorted(path.name for path in folder.glob("*.py") if path.name != "__init__.py")
    assert names
    for number, name in enumerate(names, start=1):
        assert re.fullmatch(rf"{number:04d}_[a-z0-9_]+\.py", name), name
        source = (folder / name).read_text()
        assert f'revision = "{number:04d}"' in source, name
        before = "None" if number == 1 else f'"{number - 1:04d}"'
        assert f"down_revision = {before}" in source, name
    assert newest() == f"{len(names):04d}"
