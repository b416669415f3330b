"""Alembic's entry: runs on the connection that schema.migrate opened, in its transaction."""

from alembic import context

from schema.models import Base

context.configure(connection=context.config.attributes["connection"], target_metadata=Base.metadata)
context.run_migrations()
