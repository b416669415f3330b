"""Messages: inboxes, group chats that fan out, and sessions that messages belong to."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

_NEWEST: list[sa.ColumnElement[str] | str] = [sa.literal_column("created_at DESC"), sa.literal_column("id DESC")]


def upgrade() -> None:
    op.create_table(
        "inboxes",
        sa.Column("owner", sa.String(length=255), nullable=False),
        sa.Column("agent_id", sa.String(length=255), nullable=False),
        sa.Column("last_seq", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.ForeignKeyConstraint(
            ["agent_id"], ["agents.id"], name=op.f("inboxes_agent_id_fkey"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("owner", "agent_id", name=op.f("inboxes_pkey")),
    )
    _add_to_messages()
    _index_messages()
    op.create_index("sessions_idx_owner", "sessions", ["owner", *_NEWEST])
    op.create_index("groupchats_idx_owner", "groupchats", ["owner", *_NEWEST])
    # What a session is deleted for, or refuses to be.
    for table in ("tasks", "workflows"):
        op.create_index(
            f"{table}_idx_session", table, ["session_id"], postgresql_where=sa.text("session_id IS NOT NULL")
        )


def _add_to_messages() -> None:
    for column in (
        sa.Column("groupchat_id", sa.String(length=255), nullable=True),
        sa.Column("post_id", sa.String(length=255), nullable=True),
        sa.Column("session_id", sa.String(length=255), nullable=True),
        # Rows that somebody wrote by hand are numbered as they lie.
        sa.Column("position", sa.BigInteger(), sa.Identity(), nullable=False),
        sa.Column("seq", sa.Integer(), nullable=True),
    ):
        op.add_column("messages", column)
    for name, table in (("groupchat_id", "groupchats"), ("post_id", "messages"), ("session_id", "sessions")):
        op.create_foreign_key(op.f(f"messages_{name}_fkey"), "messages", table, [name], ["id"])
    op.alter_column("messages", "destination_agent_id", nullable=True)
    op.create_check_constraint(
        op.f("messages_destination_check"),
        "messages",
        "(destination_agent_id IS NULL) = (groupchat_id IS NOT NULL AND post_id IS NULL)",
    )
    # What was not acknowledged has no place in an inbox yet.
    op.execute("UPDATE messages SET status = 'pending', sent_at = NULL WHERE status = 'sent'")


def _index_messages() -> None:
    inbox = ["owner", "destination_agent_id"]
    for name, columns, unique, where in (
        ("messages_idx_owner", ["owner", *_NEWEST], False, "post_id IS NULL"),
        (
            "messages_idx_pending",
            [*inbox, "position"],
            False,
            "status = 'pending' AND destination_agent_id IS NOT NULL",
        ),
        ("messages_idx_inbox", [*inbox, "seq"], False, "status = 'sent' AND destination_agent_id IS NOT NULL"),
        ("messages_one_a_seq", [*inbox, "seq"], True, "seq IS NOT NULL"),
        ("messages_idx_post", ["post_id", "status"], False, "post_id IS NOT NULL"),
        ("messages_idx_groupchat", ["groupchat_id"], False, "groupchat_id IS NOT NULL"),
        ("messages_idx_session", ["session_id"], False, "session_id IS NOT NULL"),
    ):
        op.create_index(name, "messages", columns, unique=unique, postgresql_where=sa.text(where))
