from __future__ import annotations

import socket
import stat
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from app.errors import SettingsError
from app.local import home as homes
from app.local import ports
from app.local.listeners import LISTENERS
from app.local.plan import Plan, make_plan
from app.local.record import RUN_VARIABLE
from app.settings import settings

DATABASE_URL = "postgresql://me:secret@db.example/tasks"
REDIS_URL = "redis://:secret@redis.example:6379/0"
VECTOR_DB_URL = "http://chroma.example:8000"
LISTENING = "api: a\nws: b\nflower: c\nclock: d\n"


@pytest.fixture
def elsewhere(environment: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Settings with all services somewhere else."""
    environment.setenv("DATABASE_URL", DATABASE_URL)
    environment.setenv("REDIS_URL", REDIS_URL)
    environment.setenv("VECTOR_DB_URL", "chroma.example")
    for listener in LISTENERS:
        environment.setenv(listener.variable, "0")
    return environment


def plan(
    tmp_path: Path, procfile: str = "api: serve ${CLAWQ_API_PORT}\nclock: tick\n", without: Sequence[str] = ()
) -> Plan:
    (tmp_path / "Procfile").write_text(procfile)
    home = homes.open_home(tmp_path / "home")
    return make_plan(home, tmp_path / "Procfile", "this-run", lambda *_, **__: None, without)


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


def test_what_listens_has_a_port_and_a_url(elsewhere: pytest.MonkeyPatch, tmp_path: Path) -> None:
    made = plan(tmp_path, LISTENING)
    api, ws, flower = (made.env[f"CLAWQ_{name}_PORT"] for name in ("API", "WS", "FLOWER"))
    assert len({api, ws, flower}) == 3
    assert made.urls == {
        "api_url": f"http://127.0.0.1:{api}",
        "ws_url": f"ws://127.0.0.1:{ws}/ws",
        "flower_url": f"http://127.0.0.1:{flower}",
    }
    assert made.probes["ws"] == f"http://127.0.0.1:{ws}/ready"


def test_picked_ports_are_remembered(elsewhere: pytest.MonkeyPatch, tmp_path: Path) -> None:
    first = plan(tmp_path, LISTENING)
    # One that is left out for once keeps its own.
    assert plan(tmp_path).api_url == first.api_url
    assert plan(tmp_path, LISTENING).urls == first.urls


def test_a_remembered_port_that_another_wants_is_not_taken(elsewhere: pytest.MonkeyPatch, tmp_path: Path) -> None:
    before = plan(tmp_path, LISTENING).ports["api"]
    elsewhere.setenv("CLAWQ_WS_PORT", str(before))
    settings.cache_clear()
    now = plan(tmp_path, LISTENING).ports
    assert now["ws"] == before
    assert now["api"] != before


@pytest.mark.parametrize("variable", ["CLAWQ_API_PORT", "CLAWQ_WS_PORT", "CLAWQ_FLOWER_PORT"])
def test_a_taken_port_is_named(elsewhere: pytest.MonkeyPatch, tmp_path: Path, variable: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        elsewhere.setenv(variable, str(port))
        with pytest.raises(SettingsError, match=rf"^Port {port} .* {variable} .* 0 for a free one\.$"):
            plan(tmp_path, LISTENING)


def test_two_that_want_one_port_are_refused(elsewhere: pytest.MonkeyPatch, tmp_path: Path) -> None:
    elsewhere.setenv("CLAWQ_API_PORT", str(port := ports.pick()))
    elsewhere.setenv("CLAWQ_WS_PORT", str(port))
    with pytest.raises(SettingsError, match=rf"^Port {port} .* CLAWQ_WS_PORT"):
        plan(tmp_path, LISTENING)


def test_flower_has_a_password_of_its_own_which_stays(elsewhere: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "home" / "flower_password"
    plan(tmp_path)
    assert not file.exists()
    plan(tmp_path, LISTENING)
    made = file.read_text()
    assert len(made.strip()) >= 32
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    plan(tmp_path, LISTENING)
    assert file.read_text() == made
    file.write_text("")
    plan(tmp_path, LISTENING)
    assert len(file.read_text().strip()) >= 32


def test_a_password_in_the_settings_is_the_only_one(elsewhere: pytest.MonkeyPatch, tmp_path: Path) -> None:
    elsewhere.setenv("CLAWQ_FLOWER_PASSWORD", "correct-horse")
    plan(tmp_path, LISTENING)
    assert not (tmp_path / "home" / "flower_password").exists()


def test_a_line_can_be_left_out(elsewhere: pytest.MonkeyPatch, tmp_path: Path) -> None:
    made = plan(tmp_path, LISTENING, without=["flower", "clock"])
    assert [line.name for line in made.lines] == ["api", "ws"]
    assert "flower_url" not in made.urls
    assert not (tmp_path / "home" / "flower_password").exists()
    with pytest.raises(SettingsError, match=r"^The Procfile has no line flwoer to leave out\.$"):
        plan(tmp_path, LISTENING, without=["flwoer"])


def test_processes_have_their_drain_and_a_margin_to_stop(elsewhere: pytest.MonkeyPatch, tmp_path: Path) -> None:
    elsewhere.setenv("CLAWQ_DRAIN_S", "7")
    assert plan(tmp_path).grace_s == 17
