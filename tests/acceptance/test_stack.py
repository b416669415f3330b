"""The real command line, as processes: up, status, doctor, down."""

from __future__ import annotations

import json
import re
import signal
import stat
from collections.abc import Iterator
from typing import Any

import httpx
import psutil
import pytest

from tests import support
from tests.acceptance.cli import LEAN, UP, Cli

ROLES = {
    "api", "ws", "gateway", "coordinator", "execution", "memory", "clock", "flower", "postgres", "redis", "chroma"
}  # fmt: skip

#: Everything starts at once on what may be two cores, next to other tests.
pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Cli, dict[str, Any]]]:
    cli = Cli(tmp_path_factory.mktemp("stack") / "home")
    try:
        found = cli.up()
        cli.at_once = _workers(found)
        yield cli, found
    finally:
        cli.run("down")


def _workers(found: dict[str, Any]) -> list[tuple[str, int]]:
    headers = {"Authorization": f"Bearer {found['api_key']}"}
    workers = httpx.get(f"{found['api_url']}/api/v1/workers", headers=headers).json()["items"]
    return [(worker["role"], _ready(worker["info"]["health_port"])) for worker in workers]


def _ready(port: int) -> int:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/ready").status_code
    except httpx.HTTPError:
        return 0


def test_up_prints_where_everything_is(running: tuple[Cli, dict[str, Any]]) -> None:
    cli, found = running
    assert set(found) == {"api_url", "ws_url", "flower_url", "api_key", "home"}
    assert found["home"] == str(cli.home)
    assert httpx.get(f"{found['api_url']}/ready").status_code == 200
    assert re.fullmatch(r"ws://127\.0\.0\.1:\d+/ws", found["ws_url"])
    assert httpx.get(found["ws_url"].replace("ws:", "http:", 1).removesuffix("/ws") + "/ready").status_code == 200
    headers = {"Authorization": f"Bearer {found['api_key']}"}
    assert httpx.get(f"{found['api_url']}/api/v1/tasks", headers=headers).status_code == 200
    assert httpx.get(f"{found['api_url']}/api/v1/tasks").status_code == 401


def test_flower_shows_every_worker_to_whoever_has_its_password(running: tuple[Cli, dict[str, Any]]) -> None:
    cli, found = running
    assert httpx.get(found["flower_url"]).status_code == 401
    user = ("clawq", (cli.home / "flower_password").read_text().strip())
    with httpx.Client(base_url=found["flower_url"], auth=user, timeout=20) as flower:
        names = support.eventually(lambda: n if len(n := set(flower.get("/api/workers?refresh=1").json())) == 4 else 0)
        assert {name.partition("@")[0] for name in names} == {"gateway", "coordinator", "execution", "memory"}
        support.eventually(lambda: names <= {w["hostname"] for w in flower.get("/workers?json=1").json()["data"]})
        # All that it knows of one, its settings among it.
        (gateway,) = (name for name in names if name.startswith("gateway@"))
        pages = [flower.get(f"/worker/{gateway}").text, flower.get(f"/api/workers?workername={gateway}").text]
        assert flower.post(f"/api/worker/shutdown/{gateway}").status_code == 403
    secret = json.loads((cli.home / "redis.json").read_text())["password"]
    assert all("result_backend" in page and secret not in page for page in pages)


def test_workers_work_when_up_returns(running: tuple[Cli, dict[str, Any]]) -> None:
    cli, _ = running
    assert {role for role, _ in cli.at_once} == {"gateway", "coordinator", "execution", "memory"}
    assert {status for _, status in cli.at_once} == {200}


def test_celery_s_programs_log_nothing_but_json(running: tuple[Cli, dict[str, Any]]) -> None:
    cli, _ = running
    for role in ("gateway", "coordinator", "execution", "memory", "clock", "flower"):
        for line in (cli.home / "logs" / f"{role}.log").read_text().splitlines():
            assert line.startswith("{"), f"{role}: {line}"
            assert json.loads(line)["@timestamp"]


def test_status_shows_every_role_running(running: tuple[Cli, dict[str, Any]]) -> None:
    cli, found = running
    status = json.loads(cli.run("status", "--json").stdout)
    assert {p["role"] for p in status["processes"]} == ROLES
    assert all(p["state"] == "running" and psutil.pid_exists(p["pid"]) for p in status["processes"])
    assert status["api_url"] == found["api_url"]
    assert cli.run("status").returncode == 0


def test_everything_listens_on_the_loopback_address_only(running: tuple[Cli, dict[str, Any]]) -> None:
    cli, _ = running
    family = set()
    for entry in json.loads(cli.run("status", "--json").stdout)["processes"]:
        process = psutil.Process(entry["pid"])
        family |= {process.pid, *(child.pid for child in process.children(recursive=True))}
    listening = [c for c in psutil.net_connections() if c.pid in family and c.status == psutil.CONN_LISTEN]
    assert listening
    assert {c.laddr.ip for c in listening} <= {"127.0.0.1", "::1"}


def test_secrets_are_their_owner_s(running: tuple[Cli, dict[str, Any]]) -> None:
    cli, found = running
    assert stat.S_IMODE(cli.home.stat().st_mode) == 0o700
    for name in ("api_key", "stack.env", "stack.json", "postgres.json", "redis.json", "chroma.json", "flower_password"):
        assert stat.S_IMODE((cli.home / name).stat().st_mode) == 0o600, name
    password = json.loads((cli.home / "postgres.json").read_text())["password"]
    flower = (cli.home / "flower_password").read_text().strip()
    for process in psutil.process_iter(["cmdline"]):
        words = " ".join(process.info["cmdline"] or [])
        assert found["api_key"] not in words
        assert password not in words
        assert flower not in words


def test_a_second_up_is_refused_and_harms_nothing(running: tuple[Cli, dict[str, Any]]) -> None:
    cli, found = running
    assert "already running" in cli.refuses(*UP)
    assert httpx.get(f"{found['api_url']}/ready").status_code == 200


def test_doctor_finds_the_running_stack_in_order(running: tuple[Cli, dict[str, Any]]) -> None:
    cli, _ = running
    found = json.loads(cli.run("doctor", "--json").stdout)
    states = {check["name"]: check["state"] for check in found["checks"]}
    assert {states[name] for name in ("python", "home", "disk", "port", "postgres", "redis", "chroma", "schema")} == {
        "ok"
    }


def test_migrate_by_hand_reaches_the_running_database(running: tuple[Cli, dict[str, Any]]) -> None:
    cli, _ = running
    assert cli.run("migrate").returncode == 0


def test_a_killed_supervisor_is_no_obstacle(running: tuple[Cli, dict[str, Any]]) -> None:
    cli, first = running
    left = [p["pid"] for p in json.loads(cli.run("status", "--json").stdout)["processes"]]
    supervisor = psutil.Process(json.loads((cli.home / "lock").read_text())["pid"])
    supervisor.kill()
    supervisor.wait(10)
    for command in ("status", "doctor"):
        done = cli.run(command)
        assert "processes of a killed supervisor are left: `clawq up` or `clawq down` ends them" in done.stdout
        assert done.returncode == 1
    assert set(left) <= set(json.loads(cli.run("status", "--json").stdout)["left"])
    assert cli.up() == first
    assert json.loads(cli.run("status", "--json").stdout)["left"] == []
    now = {p["pid"] for p in json.loads(cli.run("status", "--json").stdout)["processes"]}
    assert not now & set(left)


def test_the_next_up_finds_the_same_keys_and_ports(running: tuple[Cli, dict[str, Any]]) -> None:
    """The last of those that use it: afterwards it is down."""
    cli, first = running
    password = (cli.home / "flower_password").read_text()
    assert cli.run("down").returncode == 0
    assert cli.run("status").returncode == 1
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{first['api_url']}/ready")
    assert cli.up() == first
    assert (cli.home / "flower_password").read_text() == password
    assert cli.run("down").returncode == 0
    assert cli.run("down").returncode == 0


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM])
def test_up_in_the_foreground_stops_everything_at_a_signal(cli: Cli, sign: signal.Signals) -> None:
    with cli.start("up", "--json", *LEAN) as process:
        assert process.stdout is not None
        found = json.loads(process.stdout.readline())
        assert httpx.get(f"{found['api_url']}/ready").status_code == 200
        pids = [p["pid"] for p in json.loads(cli.run("status", "--json").stdout)["processes"]]
        process.send_signal(sign)
        assert process.wait(60) == 0
    assert not any(psutil.pid_exists(pid) for pid in pids)
    assert cli.run("status").returncode == 1
