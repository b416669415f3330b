"""Memories: what is remembered, how it is found, and how the index follows Postgres."""
