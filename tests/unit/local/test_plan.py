from __future__ import annotations

import socket
import sys
from pathlib import Path

import pytest

from app.errors import SettingsError
from app.local import home as homes
from app.local.plan import Plan, make_plan
from app.local.record import RUN_VARIABLE

DATABASE_URL = "postgresql://me:secret@db.example/tasks"
REDIS_URL = "redis://:secret@redis.example:6379/0"
VECTOR_DB_URL = "http://chroma.example:8000"


@pytest.fixture
def elsewhere(environment: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Settings with all services somewhere else."""
    environment.setenv("DATABASE_URL", DATABASE_URL)
    environment.setenv("REDIS_URL", REDIS_URL)
    environment.setenv("VECTOR_DB_URL", "chroma.example")
    environment.setenv("CLAWQ_API_PORT", "0")
    return environment


def plan(tmp_path: Path, procfile: str = "api: serve ${CLAWQ_API_PORT}\nclock: tick\n") -> Plan:
    (tmp_path / "Procfile").write_text(procfile)
    home = homes.open_home(tmp_path / "home")
    return make_plan(home, tmp_path / "Procfile", "this-run", lambda *_, **__: None)


def test_a_configured_url_stands_in_for_an_engine(elsewhere: pytest.MonkeyPatch, tmp_path: Path) -> None:
    made = plan(tmp_path)
    assert made.servers == ()
    assert made.database_url == DATABASE_URL.replace("://", "+psycopg2://", 1)
    assert made.env["REDIS_URL"] == REDIS_URL
    assert made.env["VECTOR_DB_URL"] == VECTOR_DB_URL


def test_processes_get_a_whole_environment(elsewhere: pytest.MonkeyPatch, tmp_path: Path) -> None:
    elsewhere.setenv("SOMETHING_ELSE", "kept")
    elsewhere.setenv("CLAWQ_BIND_HOST", "0.0.0.0")
    elsewhere.setenv("PYTHONWARNINGS", "error")
    made = plan(tmp_path)
    env = made.env
    assert made.api_url == f"http://127.0.0.1:{env['CLAWQ_API_PORT']}"
    assert made.lines[0].argv(env) == ["serve", env["CLAWQ_API_PORT"]]
    assert env["CLAWQ_HOME"] == str(tmp_path / "home")
    assert env["CLAWQ_HEALTH_PORT"] == "0"
    assert env["SOMETHING_ELSE"] == "kept"
    assert env["CLAWQ_BIND_HOST"] == "127.0.0.1"
    assert env["PYTHONWARNINGS"].endswith(",error")
    assert env[RUN_VARIABLE] == "this-run"
    assert env["PATH"].split(":")[0] == str(Path(sys.executable).parent)


def test_what_is_typed_by_hand_gets_no_more_than_it_needs(elsewhere: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert set(plan(tmp_path).exported) == {"DATABASE_URL", "REDIS_URL", "VECTOR_DB_URL", "CLAWQ_API_PORT"}


def test_a_picked_port_is_remembered(elsewhere: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert plan(tmp_path).api_url == plan(tmp_path).api_url


def test_a_taken_port_is_named(elsewhere: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        elsewhere.setenv("CLAWQ_API_PORT", str(port))
        with pytest.raises(SettingsError, match=rf"^Port {port} .* CLAWQ_API_PORT .* 0 for a free one\.$"):
            plan(tmp_path)


def test_processes_have_their_drain_and_a_margin_to_stop(elsewhere: pytest.MonkeyPatch, tmp_path: Path) -> None:
    elsewhere.setenv("CLAWQ_DRAIN_S", "7")
    assert plan(tmp_path).grace_s == 17
