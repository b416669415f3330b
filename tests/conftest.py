"""Fixtures for all distances: real services from the system or from wheels, and a clean slate for each test.

A missing service skips with its reason, unless CLAWQ_TESTS_STRICT=1 (CI): then it fails.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from sqlalchemy import text

from app import db as app_db
from app import epoch, publisher
from app.errors import ClawqError
from app.local import services
from app.memory import index
from app.settings import settings
from schema.migrate import migrate
from schema.models import Base

_ENV = ("CLAWQ_", "DATABASE_URL", "REDIS_URL", "VECTOR_DB_URL", "AGENT_", "LOG_LEVEL", "DOCKER_ENABLED")


def missing(reason: str) -> None:
    """A service is not here: skip, or fail where everything has to be."""
    if os.environ.get("CLAWQ_TESTS_STRICT") == "1":
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def postgres_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A migrated Postgres for the whole run."""
    with ExitStack() as stack:
        try:
            url = stack.enter_context(services.postgres(tmp_path_factory.mktemp("postgres")))
        except ClawqError as exc:
            missing(f"no Postgres: {exc}")
        migrate(url)
        yield url


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Valkey or Redis for the whole run."""
    with ExitStack() as stack:
        try:
            url = stack.enter_context(services.valkey(tmp_path_factory.mktemp("valkey")))
        except ClawqError as exc:
            missing(f"no Redis: {exc}")
        yield url


@pytest.fixture(scope="session")
def chroma_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Chroma for the whole run."""
    with ExitStack() as stack:
        try:
            url = stack.enter_context(services.chroma(tmp_path_factory.mktemp("chroma")))
        except ClawqError as exc:
            missing(f"no Chroma: {exc}")
        yield url


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[pytest.MonkeyPatch]:
    """An environment without any setting of the machine's, in an empty CLAWQ_HOME; settings are read anew."""
    for name in list(os.environ):
        if name.startswith(_ENV) and name != "CLAWQ_TESTS_STRICT":
            monkeypatch.delenv(name)
    monkeypatch.setenv("CLAWQ_HOME", str(tmp_path / "home"))
    _forget()
    yield monkeypatch
    _forget()


@pytest.fixture
def clawq(environment: pytest.MonkeyPatch, postgres_url: str, redis_url: str) -> Iterator[pytest.MonkeyPatch]:
    """Settings that point at real services, with empty tables and an empty Redis."""
    environment.setenv("DATABASE_URL", postgres_url)
    environment.setenv("REDIS_URL", redis_url)
    publisher.client().flushdb()
    with app_db.transaction() as db:
        tables = ", ".join(table.name for table in Base.metadata.sorted_tables)
        db.execute(text(f"TRUNCATE {tables}"))
    yield environment
    for made in (app_db.engine, app_db._autocommit):
        made().dispose()
    # Or they are closed when the garbage is collected, with a warning, which may come when the tests are over.
    if publisher.client.cache_info().currsize:
        publisher.client().close()
    if publisher._connections.cache_info().currsize:
        publisher._connections().force_close_all()


@pytest.fixture
def memory(clawq: pytest.MonkeyPatch, chroma_url: str) -> Iterator[pytest.MonkeyPatch]:
    """`clawq` with a Chroma. Collections of other tests may be in it; no row knows of them."""
    clawq.setenv("VECTOR_DB_URL", chroma_url)
    settings.cache_clear()
    yield clawq
    index.close()


def _forget() -> None:
    for cached in (settings, app_db.engine, app_db._autocommit, publisher.client, publisher._connections):
        cached.cache_clear()
    publisher._breaker.succeeded()
    epoch._rests_until = 0.0
    epoch._away_since = None
    epoch._asked_at = 0.0
