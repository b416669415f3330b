"""The database: SQLAlchemy models, one file per noun, and the Alembic migrations."""
