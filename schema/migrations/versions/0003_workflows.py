"""Workflows, and what their tasks need."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0003"
down_revision = "0002"

_READY = "status = 'pending' AND deps_left = 0 AND carrier {} 'gateway'"


def upgrade() -> None:
    op.create_table(
        "workflows",
        sa.Column("id", sa.String(length=255), nullable=False),
        sa.Column("owner", sa.String(length=255), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("description", sa.Text(), server_default="", nullable=False),
        sa.Column("status", sa.String(length=50), server_default="pending", nullable=False),
        sa.Column("document", postgresql.JSONB(), nullable=False),
        sa.Column("input", postgresql.JSONB(), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("labels", postgresql.JSONB(), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("max_running", sa.Integer(), nullable=True),
        sa.Column("deadline", sa.DateTime(timezone=True), nullable=True),
        sa.Column("session_id", sa.String(length=255), nullable=True),
        sa.Column("rerun_of", sa.String(length=255), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("cancel_requested_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("completed_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "status IN ('pending', 'running', 'paused', 'succeeded', 'failed', 'cancelled')",
            name=op.f("workflows_status_check"),
        ),
        sa.CheckConstraint("max_running > 0", name=op.f("workflows_max_running_check")),
        sa.ForeignKeyConstraint(["session_id"], ["sessions.id"], name=op.f("workflows_session_id_fkey")),
        sa.PrimaryKeyConstraint("id", name=op.f("workflows_pkey")),
    )
    op.create_index(
        "workflows_idx_owner",
        "workflows",
        ["owner", sa.literal_column("created_at DESC"), sa.literal_column("id DESC")],
        unique=False,
    )
    op.create_index(
        "workflows_idx_open",
        "workflows",
        ["id"],
        unique=False,
        postgresql_where=sa.text("status IN ('pending', 'running', 'paused')"),
    )
    _add_to_tasks()


def _add_to_tasks() -> None:
    for column in (
        sa.Column("key", sa.String(length=255), nullable=True),
        sa.Column("on_failure", sa.String(length=50), server_default="skip", nullable=False),
        sa.Column("rules", postgresql.JSONB(), nullable=True),
        sa.Column("mapped_from", sa.String(length=255), nullable=True),
        sa.Column("position", sa.Integer(), nullable=True),
        sa.Column("carrier", sa.String(length=50), server_default="gateway", nullable=False),
        sa.Column("retry", postgresql.JSONB(), nullable=True),
    ):
        op.add_column("tasks", column)
    op.create_check_constraint(
        op.f("tasks_carrier_check"), "tasks", "carrier IN ('gateway', 'coordinator', 'canvas')"
    )
    op.create_check_constraint(
        op.f("tasks_on_failure_check"), "tasks", "on_failure IN ('skip', 'continue', 'cancel')"
    )
    op.drop_index("tasks_idx_admissible", "tasks")
    for name, columns, unique, where in (
        (
            "tasks_idx_admissible",
            ["queue", "owner", "priority_rank", "available_at", "id"],
            False,
            _READY.format("="),
        ),
        ("tasks_idx_workflow_key", ["workflow_id", "key"], True, "workflow_id IS NOT NULL"),
        (
            "tasks_idx_workflow_open",
            ["workflow_id"],
            False,
            "workflow_id IS NOT NULL AND status IN ('pending', 'queued', 'running')",
        ),
        ("tasks_idx_workflow_ready", ["workflow_id", "priority_rank", "available_at", "id"], False, _READY.format("<>")),
        (
            "tasks_idx_workflow_abort",
            ["workflow_id"],
            False,
            "workflow_id IS NOT NULL AND on_failure = 'cancel' AND status IN ('failed', 'cancelled')",
        ),
        ("tasks_idx_mapped_from", ["mapped_from"], False, "mapped_from IS NOT NULL"),
    ):
        op.create_index(name, "tasks", columns, unique=unique, postgresql_where=sa.text(where))
