"""Throw-away engines: a real Postgres, a real Valkey and a real Chroma for the length of a `with` block.

    with postgres(tmp_path) as database_url, valkey(tmp_path) as redis_url, chroma(tmp_path) as vector_db_url:
        ...

Postgres and Valkey sync nothing to the disk, so they start fast. They end with the block, or with the process that
opened it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from app.local import chroma as chroma_
from app.local import files
from app.local import postgres as postgres_
from app.local import valkey as valkey_
from app.local.postgres import Source
from app.local.servers import running


@contextmanager
def postgres(home: Path, prefer: Source = "system", version: int | None = None) -> Iterator[str]:
    """A Postgres with an empty database `clawq`.

    Args:
        home: directory for its state; used again, it is the same server with the same data.
        prefer: system binaries or the wheel's.
        version: major version.

    Yields:
        Its URL as SQLAlchemy wants it, `postgresql+psycopg2://…`. The role may create databases.

    Raises:
        SettingsError: there is no such Postgres here.
        ServerFailed: it does not start.
    """
    files.private_dir(home)
    server = postgres_.prepare(home, prefer=prefer, version=version, durable=False)
    with running(server, home / "postgres.log"):
        yield server.url.replace("postgresql://", "postgresql+psycopg2://", 1)


@contextmanager
def valkey(home: Path, prefer: Source = "system") -> Iterator[str]:
    """An empty Valkey (or Redis, if that is what the system has).

    Yields:
        Its URL, `redis://:password@127.0.0.1:port/0`.

    Raises:
        SettingsError: there is none here.
        ServerFailed: it does not start.
    """
    files.private_dir(home)
    server = valkey_.prepare(home, prefer=prefer)
    with running(server, home / "redis.log"):
        yield server.url


@contextmanager
def chroma(home: Path) -> Iterator[str]:
    """A Chroma without collections.

    Args:
        home: directory for its state; used again, it is the same server with the same data.

    Yields:
        Its URL, `http://127.0.0.1:port`.

    Raises:
        SettingsError: there is none here.
        ServerFailed: it does not start.
    """
    files.private_dir(home)
    server = chroma_.prepare(home)
    with running(server, home / "chroma.log"):
        yield server.url
