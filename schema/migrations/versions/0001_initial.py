"""The six tables of the deployment design, and those of tasks' attempts, events, edges, workers and keys.

`memory.embedding` is vector(1536) where the server offers pgvector, real[] otherwise: Chroma does the searching.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "agents",
        sa.Column("id", sa.String(length=255), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("role", sa.String(length=255), nullable=False),
        sa.Column("goal", sa.Text(), nullable=False),
        sa.Column("backstory", sa.Text(), nullable=True),
        sa.Column("agent_type", sa.String(length=255), nullable=False),
        sa.Column("status", sa.String(length=50), server_default="inactive", nullable=False),
        sa.Column("configuration", postgresql.JSONB(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("status IN ('active', 'inactive')", name=op.f("agents_status_check")),
        sa.PrimaryKeyConstraint("id", name=op.f("agents_pkey")),
    )
    op.create_index("agents_idx_agent_type", "agents", ["agent_type"], unique=False)
    op.create_index("agents_idx_status", "agents", ["status"], unique=False)
    op.create_table(
        "api_keys",
        sa.Column("id", sa.String(length=255), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("owner", sa.String(length=255), nullable=False),
        sa.Column("secret_sha256", sa.LargeBinary(), nullable=False),
        sa.Column("scopes", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("api_keys_pkey")),
    )
    op.create_index("api_keys_idx_owner", "api_keys", ["owner"], unique=False)
    op.create_table(
        "attempts",
        sa.Column("task_id", sa.String(length=255), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("round", sa.Integer(), nullable=False),
        sa.Column("worker", sa.String(length=255), nullable=False),
        sa.Column("container_id", sa.String(length=255), nullable=True),
        sa.Column("started_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("outcome", sa.String(length=50), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("task_id", "attempt", name=op.f("attempts_pkey")),
    )
    op.create_table(
        "events",
        sa.Column("task_id", sa.String(length=255), nullable=False),
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(length=50), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("round", sa.Integer(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("data", postgresql.JSONB(), server_default=sa.text("'{}'"), nullable=False),
        sa.CheckConstraint(
            "kind IN ('accepted', 'queued', 'running', 'progress', 'log', 'retrying', 'lease_expired', 'cancel_requested', 'succeeded', 'failed', 'cancelled', 'skipped')",
            name=op.f("events_kind_check"),
        ),
        sa.PrimaryKeyConstraint("task_id", "seq", name=op.f("events_pkey")),
    )
    op.create_index(
        "events_one_end_a_round",
        "events",
        ["task_id", "round"],
        unique=True,
        postgresql_where=sa.text("kind IN ('succeeded', 'failed', 'cancelled', 'skipped')"),
    )
    op.create_table(
        "groupchats",
        sa.Column("id", sa.String(length=255), nullable=False),
        sa.Column("owner", sa.String(length=255), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("agents", postgresql.JSONB(), nullable=False),
        sa.Column("status", sa.String(length=50), server_default="active", nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("status IN ('active', 'closed')", name=op.f("groupchats_status_check")),
        sa.PrimaryKeyConstraint("id", name=op.f("groupchats_pkey")),
    )
    op.create_index("groupchats_idx_status", "groupchats", ["status"], unique=False)
    op.create_table(
        "idempotency",
        sa.Column("owner", sa.String(length=255), nullable=False),
        sa.Column("route", sa.String(length=255), nullable=False),
        sa.Column("key", sa.String(length=255), nullable=False),
        sa.Column("body_sha256", sa.LargeBinary(), nullable=False),
        sa.Column("http_status", sa.SmallInteger(), nullable=False),
        sa.Column("response", postgresql.JSONB(), nullable=False),
        sa.Column("location", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("owner", "route", "key", name=op.f("idempotency_pkey")),
    )
    op.create_index("idempotency_idx_created_at", "idempotency", ["created_at"], unique=False)
    op.create_table(
        "memory",
        sa.Column("id", sa.String(length=255), nullable=False),
        sa.Column("owner", sa.String(length=255), nullable=False),
        sa.Column("memory_type", sa.String(length=50), nullable=False),
        sa.Column("content", sa.Text(), nullable=False),
        sa.Column("metadata", postgresql.JSONB(), nullable=True),
        sa.Column("embedding", sa.ARRAY(sa.REAL()), nullable=True),
        sa.Column("importance", sa.Float(), server_default=sa.text("0.5"), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("importance BETWEEN 0 AND 1", name=op.f("memory_importance_check")),
        sa.PrimaryKeyConstraint("id", name=op.f("memory_pkey")),
    )
    op.create_index("memory_idx_created_at", "memory", ["created_at"], unique=False)
    op.create_index("memory_idx_importance", "memory", ["importance"], unique=False)
    op.create_index("memory_idx_memory_type", "memory", ["memory_type"], unique=False)
    op.create_table(
        "sessions",
        sa.Column("id", sa.String(length=255), nullable=False),
        sa.Column("owner", sa.String(length=255), nullable=False),
        sa.Column("user_id", sa.String(length=255), nullable=True),
        sa.Column("session_type", sa.String(length=50), nullable=False),
        sa.Column("status", sa.String(length=50), server_default="active", nullable=False),
        sa.Column("metadata", postgresql.JSONB(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("closed_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("status IN ('active', 'closed')", name=op.f("sessions_status_check")),
        sa.PrimaryKeyConstraint("id", name=op.f("sessions_pkey")),
    )
    op.create_index("sessions_idx_created_at", "sessions", ["created_at"], unique=False)
    op.create_index("sessions_idx_status", "sessions", ["status"], unique=False)
    op.create_index("sessions_idx_user_id", "sessions", ["user_id"], unique=False)
    op.create_table(
        "messages",
        sa.Column("id", sa.String(length=255), nullable=False),
        sa.Column("owner", sa.String(length=255), nullable=False),
        sa.Column("source_agent_id", sa.String(length=255), nullable=False),
        sa.Column("destination_agent_id", sa.String(length=255), nullable=False),
        sa.Column("message_type", sa.String(length=50), nullable=False),
        sa.Column("content", sa.Text(), nullable=False),
        sa.Column("metadata", postgresql.JSONB(), nullable=True),
        sa.Column("status", sa.String(length=50), server_default="pending", nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("sent_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("received_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("status IN ('pending', 'sent', 'received')", name=op.f("messages_status_check")),
        sa.ForeignKeyConstraint(
            ["destination_agent_id"], ["agents.id"], name=op.f("messages_destination_agent_id_fkey")
        ),
        sa.ForeignKeyConstraint(
            ["source_agent_id"], ["agents.id"], name=op.f("messages_source_agent_id_fkey")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("messages_pkey")),
    )
    op.create_index("messages_idx_created_at", "messages", ["created_at"], unique=False)
    op.create_index("messages_idx_destination_agent", "messages", ["destination_agent_id"], unique=False)
    op.create_index("messages_idx_source_agent", "messages", ["source_agent_id"], unique=False)
    op.create_table(
        "tasks",
        sa.Column("id", sa.String(length=255), nullable=False),
        sa.Column("owner", sa.String(length=255), nullable=False),
        sa.Column("task_type", sa.String(length=50), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("payload", postgresql.JSONB(), nullable=False),
        sa.Column("labels", postgresql.JSONB(), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("priority", sa.String(length=50), server_default="normal", nullable=False),
        sa.Column(
            "priority_rank",
            sa.SmallInteger(),
            sa.Computed("CASE priority WHEN 'high' THEN 0 WHEN 'normal' THEN 1 ELSE 2 END", persisted=True),
            nullable=False,
        ),
        sa.Column("queue", sa.String(length=50), nullable=False),
        sa.Column("assigned_to", sa.String(length=255), nullable=True),
        sa.Column("pinned", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("session_id", sa.String(length=255), nullable=True),
        sa.Column("workflow_id", sa.String(length=255), nullable=True),
        sa.Column("status", sa.String(length=50), server_default="pending", nullable=False),
        sa.Column("progress", sa.Integer(), server_default=sa.text("0"), nullable=True),
        sa.Column("result", postgresql.JSONB(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("dependencies", postgresql.JSONB(), nullable=True),
        sa.Column("deps_left", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column(
            "available_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False
        ),
        sa.Column("deadline", sa.DateTime(timezone=True), nullable=True),
        sa.Column("round", sa.Integer(), server_default=sa.text("1"), nullable=False),
        sa.Column("attempt", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("failures", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("max_attempts", sa.Integer(), server_default=sa.text("1"), nullable=False),
        sa.Column("infra_failures", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("dispatches", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("last_dispatched_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("next_dispatch_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("lease_owner", sa.String(length=255), nullable=True),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("cancel_requested_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_seq", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("completed_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("priority IN ('high', 'normal', 'low')", name=op.f("tasks_priority_check")),
        sa.CheckConstraint(
            "status IN ('pending', 'queued', 'running', 'succeeded', 'failed', 'cancelled', 'skipped')",
            name=op.f("tasks_status_check"),
        ),
        sa.CheckConstraint("deps_left >= 0", name=op.f("tasks_deps_left_check")),
        sa.CheckConstraint("progress BETWEEN 0 AND 100", name=op.f("tasks_progress_check")),
        sa.ForeignKeyConstraint(["assigned_to"], ["agents.id"], name=op.f("tasks_assigned_to_fkey")),
        sa.ForeignKeyConstraint(["session_id"], ["sessions.id"], name=op.f("tasks_session_id_fkey")),
        sa.PrimaryKeyConstraint("id", name=op.f("tasks_pkey")),
    )
    op.create_index(
        "tasks_idx_admissible",
        "tasks",
        ["queue", "owner", "priority_rank", "available_at", "id"],
        unique=False,
        postgresql_where=sa.text("status = 'pending' AND deps_left = 0"),
    )
    op.create_index("tasks_idx_assigned_to", "tasks", ["assigned_to"], unique=False)
    op.create_index("tasks_idx_created_at", "tasks", ["created_at"], unique=False)
    op.create_index(
        "tasks_idx_deadline",
        "tasks",
        ["deadline"],
        unique=False,
        postgresql_where=sa.text("deadline IS NOT NULL AND status IN ('pending', 'queued')"),
    )
    op.create_index(
        "tasks_idx_next_dispatch",
        "tasks",
        ["next_dispatch_at"],
        unique=False,
        postgresql_where=sa.text("status = 'queued'"),
    )
    op.create_index(
        "tasks_idx_owner",
        "tasks",
        ["owner", sa.literal_column("created_at DESC"), sa.literal_column("id DESC")],
        unique=False,
    )
    op.create_index(
        "tasks_idx_running", "tasks", ["id"], unique=False, postgresql_where=sa.text("status = 'running'")
    )
    op.create_index("tasks_idx_status", "tasks", ["status"], unique=False)
    op.create_table(
        "workers",
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("agent_id", sa.String(length=255), nullable=False),
        sa.Column("role", sa.String(length=50), nullable=False),
        sa.Column("info", postgresql.JSONB(), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column(
            "heartbeat_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False
        ),
        sa.ForeignKeyConstraint(
            ["agent_id"], ["agents.id"], name=op.f("workers_agent_id_fkey"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("name", name=op.f("workers_pkey")),
    )
    op.create_index("workers_idx_agent_id", "workers", ["agent_id"], unique=False)
    op.create_table(
        "edges",
        sa.Column("parent_id", sa.String(length=255), nullable=False),
        sa.Column("child_id", sa.String(length=255), nullable=False),
        sa.ForeignKeyConstraint(
            ["child_id"], ["tasks.id"], name=op.f("edges_child_id_fkey"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["parent_id"], ["tasks.id"], name=op.f("edges_parent_id_fkey"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("parent_id", "child_id", name=op.f("edges_pkey")),
    )
    op.create_index("edges_idx_child", "edges", ["child_id"], unique=False)
    _embed_with_pgvector()


def _embed_with_pgvector() -> None:
    connection = op.get_bind()
    offered = sa.text("SELECT EXISTS (SELECT FROM pg_available_extensions WHERE name = 'vector')")
    if not connection.scalar(offered):
        return
    try:
        with connection.begin_nested():
            op.execute("CREATE EXTENSION IF NOT EXISTS vector")
            op.execute("ALTER TABLE memory ALTER COLUMN embedding TYPE vector(1536) USING NULL")
    except sa.exc.DBAPIError as exc:
        # The role may not create extensions: the column stays real[], which serves as well.
        if getattr(exc.orig, "pgcode", None) != "42501":
            raise
