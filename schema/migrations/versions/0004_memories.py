"""Memories: scopes, versions, uses, and the way from Postgres to the index."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0004"
down_revision = "0003"

_NOW = sa.text("now()")


def upgrade() -> None:
    _add_to_memory()
    _constrain_memory()
    op.create_table(
        "memory_versions",
        sa.Column("memory_id", sa.String(length=255), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("memory_type", sa.String(length=50), nullable=False),
        sa.Column("content", sa.Text(), nullable=False),
        sa.Column("metadata", postgresql.JSONB(), nullable=True),
        sa.Column("importance", sa.Float(), nullable=True),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("status", sa.String(length=50), nullable=False),
        sa.Column("replaced_by", sa.String(length=255), nullable=True),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("replaced_at", sa.DateTime(timezone=True), server_default=_NOW, nullable=False),
        sa.ForeignKeyConstraint(
            ["memory_id"], ["memory.id"], name=op.f("memory_versions_memory_id_fkey"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("memory_id", "version", name=op.f("memory_versions_pkey")),
    )
    op.create_table(
        "memory_uses",
        sa.Column("memory_id", sa.String(length=255), nullable=False),
        sa.Column("uses", sa.Integer(), nullable=False),
        sa.Column("used_at", sa.DateTime(timezone=True), server_default=_NOW, nullable=False),
        sa.ForeignKeyConstraint(
            ["memory_id"], ["memory.id"], name=op.f("memory_uses_memory_id_fkey"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("memory_id", name=op.f("memory_uses_pkey")),
    )
    _create_indexes_and_outbox()
    op.create_index(
        "tasks_idx_stored",
        "tasks",
        [sa.text("(result ->> 'id')")],
        postgresql_where=sa.text("task_type = 'memory.store'"),
    )


def _add_to_memory() -> None:
    for column in (
        sa.Column("agent_id", sa.String(length=255), nullable=True),
        sa.Column("session_id", sa.String(length=255), nullable=True),
        sa.Column("user_id", sa.String(length=255), nullable=True),
        sa.Column("status", sa.String(length=50), server_default="active", nullable=False),
        sa.Column("replaced_by", sa.String(length=255), nullable=True),
        sa.Column("task_id", sa.String(length=255), nullable=True),
        sa.Column("version", sa.Integer(), server_default=sa.text("1"), nullable=False),
        sa.Column("indexed_version", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("embedder", sa.String(length=255), nullable=True),
        sa.Column("content_sha256", sa.LargeBinary(), nullable=True),
        sa.Column("keywords", postgresql.TSVECTOR(), nullable=True),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=_NOW, nullable=False),
    ):
        op.add_column("memory", column)
    # Rows that somebody wrote by hand; the database is UTF-8.
    op.execute(
        "UPDATE memory SET content_sha256 = sha256(convert_to(content, 'UTF8')),"
        " keywords = to_tsvector('english', left(content, 50000)), embedding = NULL, memory_type = CASE WHEN memory_type"
        " IN ('episodic', 'semantic', 'procedural', 'working') THEN memory_type ELSE 'semantic' END"
    )
    op.execute(
        "UPDATE memory m SET status = 'superseded' WHERE EXISTS (SELECT FROM memory o WHERE o.owner = m.owner"
        " AND o.content_sha256 = m.content_sha256 AND o.memory_type = m.memory_type AND o.id < m.id)"
    )
    # The indexer changes each row once, in columns that no index has: where the page has room for that, and the vector
    # lies apart, the indexes need not know.
    op.execute("ALTER TABLE memory SET (fillfactor = 50)")
    op.execute("ALTER TABLE memory ALTER COLUMN embedding SET STORAGE EXTERNAL")
    # No statement looks for one, and ANALYZE would count the numbers of all that it samples.
    op.execute("ALTER TABLE memory ALTER COLUMN embedding SET STATISTICS 0")
    op.alter_column("memory", "content_sha256", nullable=False)
    op.alter_column("memory", "keywords", nullable=False)


def _constrain_memory() -> None:
    op.create_foreign_key(op.f("memory_agent_id_fkey"), "memory", "agents", ["agent_id"], ["id"])
    op.create_foreign_key(op.f("memory_session_id_fkey"), "memory", "sessions", ["session_id"], ["id"])
    op.create_foreign_key(
        op.f("memory_replaced_by_fkey"), "memory", "memory", ["replaced_by"], ["id"], ondelete="SET NULL"
    )
    op.create_check_constraint(
        op.f("memory_memory_type_check"),
        "memory",
        "memory_type IN ('episodic', 'semantic', 'procedural', 'working')",
    )
    op.create_check_constraint(
        op.f("memory_status_check"), "memory", "status IN ('active', 'superseded', 'merged')"
    )
    newest: list[sa.ColumnElement[str] | str] = [sa.literal_column("created_at DESC"), sa.literal_column("id DESC")]
    op.create_index("memory_idx_owner", "memory", ["owner", *newest])
    op.create_index(
        "memory_one_text_a_scope",
        "memory",
        ["owner", "content_sha256", "memory_type", "agent_id", "session_id", "user_id"],
        unique=True,
        postgresql_nulls_not_distinct=True,
        postgresql_where=sa.text("status = 'active'"),
    )
    _index_where_set("memory_idx_task", ["task_id"], unique=True)
    _index_where_set("memory_idx_agent", ["agent_id"])
    _index_where_set("memory_idx_session", ["session_id"])
    _index_where_set("memory_idx_user", ["owner", "user_id"])
    _index_where_set("memory_idx_replaced_by", ["replaced_by"])
    _index_where_set("memory_idx_expires_at", ["expires_at"])
    op.create_index(
        "memory_idx_metadata",
        "memory",
        ["metadata"],
        postgresql_using="gin",
        postgresql_ops={"metadata": "jsonb_path_ops"},
        postgresql_with={"fastupdate": "off"},
    )
    # What waits in a list to be added is read as a whole by each search.
    op.create_index(
        "memory_idx_keywords",
        "memory",
        ["keywords"],
        postgresql_using="gin",
        postgresql_with={"fastupdate": "off"},
    )


def _index_where_set(name: str, columns: list[str], *, unique: bool = False) -> None:
    where = sa.text(f"{columns[-1]} IS NOT NULL")
    op.create_index(name, "memory", columns, unique=unique, postgresql_where=where)


def _create_indexes_and_outbox() -> None:
    op.create_table(
        "memory_indexes",
        sa.Column("id", sa.Integer(), sa.Identity(), nullable=False),
        sa.Column("collection", sa.String(length=255), nullable=False),
        sa.Column("collection_id", sa.String(length=255), nullable=True),
        sa.Column("embedder", sa.String(length=255), nullable=False),
        sa.Column("dimensions", sa.Integer(), nullable=False),
        sa.Column("status", sa.String(length=50), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=_NOW, nullable=False),
        sa.Column("activated_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("status IN ('building', 'active', 'retired')", name=op.f("memory_indexes_status_check")),
        sa.PrimaryKeyConstraint("id", name=op.f("memory_indexes_pkey")),
    )
    op.create_index(
        "memory_indexes_one_of_each",
        "memory_indexes",
        ["status"],
        unique=True,
        postgresql_where=sa.text("status <> 'retired'"),
    )
    op.create_table(
        "memory_outbox",
        sa.Column("id", sa.BigInteger(), sa.Identity(), nullable=False),
        sa.Column("index_id", sa.Integer(), nullable=False),
        sa.Column("memory_id", sa.String(length=255), nullable=False),
        sa.Column("owner", sa.String(length=255), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("queued_at", sa.DateTime(timezone=True), server_default=_NOW, nullable=False),
        sa.Column("available_at", sa.DateTime(timezone=True), server_default=_NOW, nullable=False),
        sa.Column("failures", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("failed_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["index_id"], ["memory_indexes.id"], name=op.f("memory_outbox_index_id_fkey"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("memory_outbox_pkey")),
    )
    op.create_index(
        "memory_outbox_idx_due", "memory_outbox", ["available_at", "id"], postgresql_where=sa.text("failed_at IS NULL")
    )
    op.create_index("memory_outbox_idx_memory", "memory_outbox", ["index_id", "owner", "memory_id"])
    op.create_index(
        "memory_outbox_idx_failed", "memory_outbox", ["id"], postgresql_where=sa.text("failed_at IS NOT NULL")
    )
