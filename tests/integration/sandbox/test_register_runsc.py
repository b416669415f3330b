"""Registering gVisor with the engine (ops/sandbox/runsc): once, and nothing else of the engine's settings changes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

REGISTER = Path(__file__).parents[3] / "ops" / "sandbox" / "runsc"
ENGINE = "import signal; print(0, flush=True); print(int(signal.sigwait({signal.SIGHUP}) == signal.SIGHUP))"


Register = Callable[[Path, Path], subprocess.CompletedProcess[str]]


@pytest.fixture
def register(tmp_path: Path) -> Register:
    """Register `tmp_path`/runsc with an engine, given the files of its settings and of its process id."""
    binary = tmp_path / "runsc"
    binary.write_text("#!/bin/sh\necho '-platform string: systrap (default), ptrace, kvm'\n")
    binary.chmod(0o755)
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}

    def register(config: Path, pidfile: Path) -> subprocess.CompletedProcess[str]:
        arguments = [sys.executable, str(REGISTER), "--config", str(config), "--pidfile", str(pidfile)]
        return subprocess.run(
            arguments,
            env=environment,
            # Whatever group of processes it may signal, it is not ours.
            start_new_session=True,
            capture_output=True,
            text=True,
            check=False,
        )

    return register


@contextmanager
def engine() -> Iterator[subprocess.Popen[str]]:
    """Says 0 when it is up, and 1 when it was told to read its settings again."""
    mask = {signal.SIGHUP}
    signal.pthread_sigmask(signal.SIG_BLOCK, mask)
    try:
        process = subprocess.Popen([sys.executable, "-c", ENGINE], stdout=subprocess.PIPE, text=True)
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, mask)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "0\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def test_registering_adds_a_runtime_once_and_keeps_all_other_settings(tmp_path: Path, register: Register) -> None:
    config, pidfile = tmp_path / "etc" / "daemon.json", tmp_path / "pid"
    config.parent.mkdir()
    theirs = {"data-root": "/data", "runtimes": {"crun": {"path": "/usr/bin/crun"}}}
    config.write_text(json.dumps(theirs))
    config.chmod(0o600)
    with engine() as process:
        pidfile.write_text(str(process.pid))
        assert register(config, pidfile).returncode == 0
        assert process.communicate(timeout=20)[0] == "1\n"
    added = {"path": str(tmp_path / "runsc"), "runtimeArgs": ["--platform=systrap", "--network=none"]}
    assert json.loads(config.read_text()) == {**theirs, "runtimes": {**theirs["runtimes"], "runsc": added}}
    assert config.stat().st_mode & 0o777 == 0o600

    before = config.read_bytes()
    # The engine is gone by now: a second time nobody is told.
    assert register(config, pidfile).returncode == 0
    assert config.read_bytes() == before

    config.write_text("{ not json")
    assert "could not be registered" in register(config, pidfile).stderr
    assert config.read_text() == "{ not json"


@pytest.mark.parametrize("said", [None, "not a number", "0", "gone"])
def test_an_engine_that_cannot_be_told_has_its_settings_left_alone(
    tmp_path: Path, register: Register, said: str | None
) -> None:
    """Or the next time the runtime would look registered, and the engine would still not know it."""
    config, pidfile = tmp_path / "daemon.json", tmp_path / "pid"
    if said == "gone":
        with engine() as process:
            said = str(process.pid)
    if said is not None:
        pidfile.write_text(said)
    for _ in range(2):
        done = register(config, pidfile)
        assert (done.returncode, "could not be registered" in done.stderr) == (1, True)
        assert not config.exists()
    with engine() as process:
        pidfile.write_text(str(process.pid))
        assert register(config, pidfile).returncode == 0
        assert process.communicate(timeout=20)[0] == "1\n"
    assert "runsc" in json.loads(config.read_text())["runtimes"]


def test_settings_behind_a_symbolic_link_stay_there(tmp_path: Path, register: Register) -> None:
    config, pidfile, behind = tmp_path / "daemon.json", tmp_path / "pid", tmp_path / "elsewhere" / "docker.json"
    behind.parent.mkdir()
    behind.write_text("{}")
    config.symlink_to(behind)
    with engine() as process:
        pidfile.write_text(str(process.pid))
        assert register(config, pidfile).returncode == 0
    assert config.readlink() == behind
    assert "runsc" in json.loads(behind.read_text())["runtimes"]
    assert [path.name for path in behind.parent.iterdir()] == [behind.name]
