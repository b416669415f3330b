from __future__ import annotations

import shlex
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from dotenv import dotenv_values

from app.local import record
from app.local.home import Home
from app.local.record import Member

SLEEP = [sys.executable, "-c", "import time; time.sleep(60)"]


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(SLEEP)
    yield process
    process.kill()
    process.wait()


def member(process: subprocess.Popen[bytes], *, late_s: float = 0) -> Member:
    started = psutil.Process(process.pid).create_time()
    return Member("web", "web", process.pid, started - late_s, "running")


def test_the_env_file_is_private_and_read_alike_by_shells_and_dotenv(home: Home) -> None:
    values = {"DATABASE_URL": "postgresql://clawq:a-b_c@127.0.0.1:1/clawq", "ODD": 'a b$HOME"#'}
    record.write_env(home, values)
    assert stat.S_IMODE(home.env_file.stat().st_mode) == 0o600
    assert dotenv_values(home.env_file) == values
    script = f'. {shlex.quote(str(home.env_file))}; printf %s "$ODD"'
    assert subprocess.check_output(["sh", "-c", script], text=True) == values["ODD"]


@pytest.mark.parametrize("value", ["it's", "two\nlines", "back\\slash"])
def test_the_env_file_refuses_what_could_be_read_in_two_ways(home: Home, value: str) -> None:
    with pytest.raises(ValueError, match="may not contain"):
        record.write_env(home, {"NAME": value})


def test_a_recorded_process_that_lives_is_an_orphan(home: Home, sleeper: subprocess.Popen[bytes]) -> None:
    record.write(home, "run", {}, [member(sleeper)])
    assert [process.pid for _, process in record.orphans(home)] == [sleeper.pid]


def test_a_stranger_with_a_recorded_pid_is_none(home: Home, sleeper: subprocess.Popen[bytes]) -> None:
    record.write(home, "run", {}, [member(sleeper, late_s=3600)])
    assert record.orphans(home) == []


def test_what_a_recorded_process_started_is_found_by_its_mark(home: Home) -> None:
    with subprocess.Popen(SLEEP, env={record.RUN_VARIABLE: "this-run"}) as process:
        record.write(home, "this-run", {}, [])
        found = record.orphans(home)
        assert [p.pid for _, p in found] == [process.pid]
        record.end(found, drain_s=10)
        assert process.wait() == -signal.SIGTERM


def test_an_orphan_that_does_not_listen_is_killed(home: Home) -> None:
    deaf = "import signal, time; signal.signal(15, signal.SIG_IGN); print(flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", deaf], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        record.end([("web", psutil.Process(process.pid))], drain_s=0.2)
        assert process.wait() == -signal.SIGKILL


def test_a_damaged_record_is_an_empty_one(home: Home) -> None:
    home.record_file.write_text('{"processes": [')
    assert record.read(home) == {}
    assert record.orphans(home) == []
