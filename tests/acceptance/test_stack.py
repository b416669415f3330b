"""The real command line, as processes: up, status, doctor, down, and what can be in their way."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

CLAWQ = Path(sys.executable).with_name("clawq")
ROLES = {"api", "gateway", "coordinator", "execution", "memory", "clock", "postgres", "redis", "chroma"}
UP = ("up", "--background", "--json")

#: Everything starts at once on what may be two cores, next to other tests.
pytestmark = pytest.mark.timeout(300)


@dataclass
class Cli:
    """`clawq` with an environment of its own."""

    home: Path
    env: dict[str, str] = field(default_factory=dict)
    #: The role of each worker and what its /ready answered, at the moment when `running` was up.
    at_once: list[tuple[str, int]] = field(default_factory=list)

    def run(self, *args: str, **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([CLAWQ, *args], env=self._env(env), capture_output=True, text=True, timeout=240, cwd="/")

    def start(self, *args: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [CLAWQ, *args], env=self._env({}), text=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd="/"
        )

    def _env(self, more: dict[str, str]) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith("CLAWQ_") and not k.endswith("_URL")}
        return {**kept, "CLAWQ_HOME": str(self.home), "CLAWQ_API_PORT": "0", **self.env, **more}

    def up(self) -> dict[str, Any]:
        done = self.run(*UP)
        assert done.returncode == 0, done.stderr
        (line,) = done.stdout.splitlines()
        found = json.loads(line)
        assert isinstance(found, dict)
        return found

    def refuses(self, *args: str, **env: str) -> str:
        """The one sentence with which the command ends."""
        done = self.run(*args, **env)
        assert done.returncode == 1, done.stdout
        assert "Traceback" not in done.stderr
        assert not done.stdout
        (line,) = done.stderr.strip().splitlines()
        return line


@pytest.fixture
def cli(tmp_path: Path) -> Iterator[Cli]:
    made = Cli(tmp_path / "home")
    yield made
    made.run("down")


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
    headers = {"Authorization": f"Bearer {found['api_key']}"}
    assert httpx.get(f"{found['api_url']}/api/v1/tasks", headers=headers).status_code == 200
    assert httpx.get(f"{found['api_url']}/api/v1/tasks").status_code == 401


def test_workers_work_when_up_returns(running: tuple[Cli, dict[str, Any]]) -> None:
    cli, _ = running
    assert {role for role, _ in cli.at_once} == {"gateway", "coordinator", "execution", "memory"}
    assert {status for _, status in cli.at_once} == {200}


def test_workers_and_the_clock_log_nothing_but_json(running: tuple[Cli, dict[str, Any]]) -> None:
    cli, _ = running
    for role in ("gateway", "coordinator", "execution", "memory", "clock"):
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
    for name in ("api_key", "stack.env", "stack.json", "postgres.json", "redis.json", "chroma.json"):
        assert stat.S_IMODE((cli.home / name).stat().st_mode) == 0o600, name
    password = json.loads((cli.home / "postgres.json").read_text())["password"]
    for process in psutil.process_iter(["cmdline"]):
        words = " ".join(process.info["cmdline"] or [])
        assert found["api_key"] not in words
        assert password not in words


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


def test_the_next_up_finds_the_same_key_and_port(running: tuple[Cli, dict[str, Any]]) -> None:
    """The last of those that use it: afterwards it is down."""
    cli, first = running
    assert cli.run("down").returncode == 0
    assert cli.run("status").returncode == 1
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{first['api_url']}/ready")
    assert cli.up() == first
    assert cli.run("down").returncode == 0
    assert cli.run("down").returncode == 0


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM])
def test_up_in_the_foreground_stops_everything_at_a_signal(cli: Cli, sign: signal.Signals) -> None:
    with cli.start("up", "--json") as process:
        assert process.stdout is not None
        found = json.loads(process.stdout.readline())
        assert httpx.get(f"{found['api_url']}/ready").status_code == 200
        pids = [p["pid"] for p in json.loads(cli.run("status", "--json").stdout)["processes"]]
        process.send_signal(sign)
        assert process.wait(60) == 0
    assert not any(psutil.pid_exists(pid) for pid in pids)
    assert cli.run("status").returncode == 1


def test_down_without_a_stack_is_fine(cli: Cli) -> None:
    done = cli.run("down")
    assert (done.returncode, done.stdout) == (0, "")
    assert not cli.home.exists()


@pytest.mark.parametrize("port", ["explicit", "default"])
def test_a_taken_port_is_named(cli: Cli, port: str) -> None:
    with socket.socket() as taken:
        try:
            taken.bind(("127.0.0.1", 0 if port == "explicit" else 8080))
            taken.listen()
            number = taken.getsockname()[1]
        except OSError:  # somebody else has 8080, which is as good
            number = 8080
        sentence = cli.refuses(*UP, CLAWQ_API_PORT=str(number) if port == "explicit" else "")
    assert str(number) in sentence
    assert "CLAWQ_API_PORT" in sentence


def test_a_home_that_is_a_file_is_named(cli: Cli) -> None:
    cli.home.touch()
    for command in (UP, ("down",), ("status",)):
        assert f"CLAWQ_HOME {cli.home} is not a directory" in cli.refuses(*command)


@pytest.mark.parametrize(
    ("part", "reason"),
    [("x" * 300, "File name too long"), ("/".join(["y" * 200] * 5), "longer than 900 bytes")],
)
def test_a_home_that_is_too_long_is_one_sentence(cli: Cli, part: str, reason: str) -> None:
    assert reason in cli.refuses(*UP, CLAWQ_HOME=str(cli.home / part))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_home_that_is_not_ours_is_one_sentence(cli: Cli) -> None:
    assert "cannot be used: Permission denied" in cli.refuses(*UP, CLAWQ_HOME="/root/clawq")


def test_wrong_settings_are_all_named(cli: Cli) -> None:
    sentence = cli.refuses("status", CLAWQ_API_PORT="many", CLAWQ_LEASE_S="0")
    assert "api_port" in sentence
    assert "lease_s" in sentence


def fill(path: Path) -> None:
    """Write until there is no space left."""
    with path.open("wb", 0) as file:
        while file.write(b"\0" * (1 << 20)):
            pass


@contextmanager
def filesystem(place: Path, size: str) -> Iterator[Path]:
    """A file system of this size, or skip."""
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)]
    if subprocess.run(command, capture_output=True).returncode != 0:
        pytest.skip("may not mount a file system here")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.mark.skipif(shutil.which("mount") is None, reason="no mount here")
def test_a_full_disk_is_one_sentence(cli: Cli, tmp_path: Path) -> None:
    with filesystem(tmp_path / "tiny", "20m") as place:
        assert "has 20 MB of free space, and 200 MB are needed." in cli.refuses(*UP, CLAWQ_HOME=str(place / "h"))


@pytest.mark.skipif(shutil.which("mount") is None, reason="no mount here")
def test_a_disk_that_fills_up_does_not_take_the_stack_down(cli: Cli, tmp_path: Path) -> None:
    with filesystem(tmp_path / "small", "220m") as place:
        cli.home = place / "home"
        found = cli.up()
        try:
            with pytest.raises(OSError, match="No space left"):
                fill(place / "filler")
            assert httpx.get(f"{found['api_url']}/health").status_code == 200
            status = json.loads(cli.run("status", "--json").stdout)
            assert {p["state"] for p in status["processes"]} == {"running"}
        finally:
            (place / "filler").unlink(missing_ok=True)
            assert cli.run("down").returncode == 0
