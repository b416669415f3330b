"""Where Postgres has pgvector, `memory.embedding` is of its type, and nothing else differs."""

from __future__ import annotations

from pathlib import Path

import pytest

from app import db as app_db
from app.errors import ClawqError
from app.local import services
from app.memory import dense
from app.memory.consolidate import consolidate
from app.memory.update import update
from app.memory.wanted import Wanted
from app.settings import settings
from schema.migrate import migrate
from tests.conftest import missing
from tests.integration.memory.hands import catch_up, check, do, keep, look, row, texts
from tests.support import OWNER, scalar


def test_vectors_are_kept_read_and_compared(memory: pytest.MonkeyPatch, tmp_path: Path) -> None:
    try:
        with services.postgres(tmp_path / "pg", prefer="wheel") as url:
            migrate(url)
            memory.setenv("DATABASE_URL", url)
            for cached in (settings, app_db.engine, app_db._autocommit):
                cached.cache_clear()
            if scalar("SELECT count(*) FROM pg_extension WHERE extname = 'vector'") == 0:
                missing("no Postgres with pgvector")
            _use_memory(memory)
            app_db.engine().dispose()
    except ClawqError as exc:
        missing(f"no Postgres from the wheel: {exc}")


def _use_memory(memory: pytest.MonkeyPatch) -> None:
    catch_up()
    first, *_ = keep("green tea in the morning", "green tea in the morning.", "three servers in Frankfurt")
    catch_up()
    do(update, OWNER, first, {"importance": 0.9})
    catch_up()
    assert row(first).embedding is not None
    assert texts(look("servers in Frankfurt"))[0] == "three servers in Frankfurt"
    memory.setattr(dense, "POOL", 1)
    assert len(look("green tea", mode="vector").hits) == 3, "compared one by one"
    assert len(do(consolidate, Wanted(owner=OWNER), threshold=0.9).groups) == 1
    catch_up()
    assert check().differences == 0
