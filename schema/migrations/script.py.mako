"""${message}

A migration runs while the old code still serves: add, backfill in batches, and drop only what no running
version reads.
"""

import sqlalchemy as sa
from alembic import op

revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}


def upgrade() -> None:
    ${upgrades if upgrades else "pass"}
