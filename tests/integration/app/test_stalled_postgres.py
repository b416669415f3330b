"""A Postgres that is stopped, not dead: its kernel still takes our bytes, so only we can notice."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from app import db as app_db
from app.local import services


def one() -> int:
    with app_db.transaction() as db:
        value: int = db.scalar(text("SELECT 1"))
        return value


def test_a_stopped_postgres_is_an_error_and_not_a_hang(environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    environment.setattr(app_db, "_ANSWER_S", 0.3)
    with services.postgres(tmp_path) as url:
        environment.setenv("DATABASE_URL", url)
        assert one() == 1
        (tmp,) = tmp_path.rglob("postmaster.pid")
        postmaster = psutil.Process(int(tmp.read_text().split()[0]))
        family = [postmaster, *postmaster.children()]
        for process in family:
            process.suspend()
        try:
            for _ in ("on a pooled connection", "on a new one"):
                with pytest.raises(OperationalError, match="no answer from Postgres"):
                    one()
        finally:
            for process in family:
                process.resume()
        assert one() == 1
        app_db.engine().dispose()
