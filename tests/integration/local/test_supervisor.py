"""The supervisor with engines and dummy processes: order, restarts, orphans, failures."""

from __future__ import annotations

import json
import os
import shutil
import signal
import stat
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import httpx
import psutil
import psycopg2
import pytest
from dotenv import dotenv_values

from app.local import control, logfiles, record
from app.local import home as homes
from app.local.plan import StartFailed
from app.memory import heartbeat

T = TypeVar("T")

SLEEPER = f"sleeper: {sys.executable} -c 'import time; print(\"awake\", flush=True); time.sleep(600)'\n"


def until(probe: Callable[[], T], timeout_s: float = 20) -> T:
    deadline = time.monotonic() + timeout_s
    while not (found := probe()):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)
    return found


class Stack:
    """A stack with a Procfile of the test's."""

    def __init__(self, path: Path) -> None:
        self.home = homes.open_home(path / "home")
        self.procfile = path / "Procfile"
        self.procfile.write_text(SLEEPER)
        self._started: list[control.Starting] = []

    def up(self) -> dict[str, Any]:
        with control.Starting(self.home, leash=False, procfile=self.procfile, bare=True) as starting:
            self._started.append(starting)
            for event in starting.events():
                if event["event"] == "ready":
                    return event
        raise AssertionError("it ended before it was ready")

    def end(self) -> None:
        control.stop(self.home, drain_s=20)
        for starting in self._started:
            starting.process.wait(10)

    def pids(self) -> dict[str, int]:
        return {p.name: p.pid for p in control.status(self.home).processes if p.pid}

    def supervisor(self) -> psutil.Process:
        found = homes.holder(self.home)
        assert found is not None
        return found

    def chroma_answers(self) -> bool:
        try:
            heartbeat.listen(dotenv_values(self.home.env_file)["VECTOR_DB_URL"] or "", timeout_s=5)
        except httpx.HTTPError:
            return False
        return True

    def query(self, statement: str) -> list[tuple[Any, ...]]:
        url = dotenv_values(self.home.env_file)["DATABASE_URL"]
        connection = psycopg2.connect(url)
        try:
            with connection, connection.cursor() as cursor:
                cursor.execute(statement)
                return cursor.fetchall() if cursor.description else []
        finally:
            connection.close()


@pytest.fixture
def stack(environment: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Stack]:
    made = Stack(tmp_path)
    yield made
    made.end()


def test_up_runs_everything_and_down_leaves_nothing_running(stack: Stack) -> None:
    stack.up()
    pids = stack.pids()
    assert list(pids) == ["postgres", "redis", "chroma", "sleeper"]
    assert stack.query("SELECT 1") == [(1,)]
    assert until(lambda: logfiles.tail(stack.home.log("sleeper"))) == ["awake"]
    assert control.stop(stack.home, drain_s=20)
    assert not any(psutil.pid_exists(pid) for pid in pids.values())
    assert not stack.home.env_file.exists()
    assert not stack.home.record_file.exists()


def test_everything_that_is_killed_comes_back_with_its_data(stack: Stack) -> None:
    stack.up()
    stack.query("CREATE TABLE kept AS SELECT 42 AS answer")
    before = stack.pids()
    for pid in before.values():
        os.kill(pid, signal.SIGKILL)
    after = until(lambda: len(p := stack.pids()) == 4 and not set(p.values()) & set(before.values()) and p)
    assert set(after) == set(before)

    def answer() -> list[tuple[Any, ...]]:
        try:
            return stack.query("SELECT answer FROM kept")
        except psycopg2.OperationalError:
            return []

    assert until(answer) == [(42,)]


def test_chroma_comes_back_when_its_directory_was_removed_under_it(stack: Stack) -> None:
    stack.up()
    before = stack.pids()["chroma"]
    shutil.rmtree(stack.home.path / "chroma")
    os.kill(before, signal.SIGKILL)
    until(lambda: stack.pids().get("chroma", before) != before)
    until(stack.chroma_answers)
    assert stat.S_IMODE((stack.home.path / "chroma").stat().st_mode) == 0o700


def test_a_chroma_that_cannot_start_keeps_no_stack_from_running(stack: Stack) -> None:
    (stack.home.path / "chroma").mkdir()
    (stack.home.path / "chroma" / "chroma.sqlite3").write_text("no database")
    stack.up()
    assert stack.query("SELECT 1") == [(1,)]
    assert not stack.chroma_answers()
    until(lambda: any(p.name == "chroma" and p.state == "restarting" for p in control.status(stack.home).processes))
    assert any("not a database" in line for line in logfiles.tail(stack.home.log("chroma")))


def test_what_a_killed_supervisor_left_is_ended_by_the_next(stack: Stack) -> None:
    stack.up()
    left = stack.pids()
    stack.supervisor().kill()
    until(lambda: not homes.is_held(stack.home))
    assert all(psutil.pid_exists(pid) for pid in left.values())
    stack.up()
    assert set(stack.pids()) == {"postgres", "redis", "chroma", "sleeper"}
    assert not set(stack.pids().values()) & set(left.values())
    assert not any(_alive(pid) for pid in left.values())


def test_down_ends_what_a_killed_supervisor_left(stack: Stack) -> None:
    stack.up()
    left = stack.pids()
    stack.supervisor().kill()
    until(lambda: not homes.is_held(stack.home))
    assert control.stop(stack.home, drain_s=20)
    assert not any(_alive(pid) for pid in left.values())
    assert not control.stop(stack.home, drain_s=20)


def test_stale_files_of_another_life_do_no_harm(stack: Stack) -> None:
    home = stack.home
    home.lock_file.write_text(json.dumps({"pid": os.getpid(), "create_time": psutil.Process().create_time()}))
    record.write(
        home, "gone", {"api_url": "http://127.0.0.1:1"}, [record.Member("api", "api", os.getpid(), 1.0, "running")]
    )
    record.write_env(home, {"DATABASE_URL": "postgresql://clawq:x@127.0.0.1:1/clawq"})
    stack.up()
    assert stack.query("SELECT 1") == [(1,)]


def test_a_supervisor_on_a_leash_ends_with_its_holder(stack: Stack) -> None:
    starting = control.Starting(stack.home, leash=True, procfile=stack.procfile, bare=True)
    with starting:
        next(event for event in starting.events() if event["event"] == "ready")
        pids = stack.pids()
    assert starting.process.wait(30) == 0
    assert not any(_alive(pid) for pid in pids.values())


def test_a_worker_gets_time_to_finish(stack: Stack, tmp_path: Path) -> None:
    program = tmp_path / "worker.py"
    program.write_text(
        "import signal, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: (time.sleep(1), print('finished', flush=True), sys.exit()))\n"
        "print('working', flush=True)\n"
        "time.sleep(600)\n"
    )
    stack.procfile.write_text(f"worker: {sys.executable} '{program}'\n")
    stack.up()
    # With its line end, which is written apart.
    until(lambda: stack.home.log("worker").read_text() == "working\n")
    control.stop(stack.home, drain_s=20)
    assert logfiles.tail(stack.home.log("worker")) == ["working", "finished"]


def test_a_process_that_cannot_start_fails_the_start_and_leaves_nothing(stack: Stack) -> None:
    stack.procfile.write_text(SLEEPER + f"api: {sys.executable} -c 'import sys; sys.exit(\"no luck\")'\n")
    with pytest.raises(StartFailed, match=r"^api ended while starting\.$") as caught:
        stack.up()
    assert "no luck" in logfiles.tail(caught.value.log_file)
    assert not homes.is_held(stack.home)
    assert not any(_runs_in(process, stack.home.path) for process in psutil.process_iter())


def test_an_unknown_program_is_one_sentence(stack: Stack) -> None:
    stack.procfile.write_text("web: no-such-program\n")
    with pytest.raises(StartFailed, match="there is no program no-such-program"):
        stack.up()


def test_two_homes_run_side_by_side(stack: Stack, tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    other = Stack(tmp_path / "b")
    stack.up()
    other.up()
    try:
        stack.query("CREATE TABLE here ()")
        assert other.query("SELECT to_regclass('here')") == [(None,)]
    finally:
        other.end()
    assert stack.query("SELECT 1") == [(1,)]


def test_a_long_home_with_spaces_and_quotes_works(stack: Stack, tmp_path: Path) -> None:
    place = tmp_path / 'it\'s $HOME "quoted" é' / ("d" * 150)
    place.mkdir(parents=True)
    odd = Stack(place)
    odd.up()
    try:
        assert odd.query("SELECT 1") == [(1,)]
    finally:
        odd.end()


def _runs_in(process: psutil.Process, home: Path) -> bool:
    try:
        return process.environ().get("CLAWQ_HOME") == str(home)
    except psutil.Error:
        return False


def _alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
