"""The state directory of a stack: is it usable, and does a stack run in it?

A lock on `home/lock`, held by the supervisor for as long as it lives, answers the second question; files and pids
that a killed supervisor left behind do not.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import psutil

from app.errors import Conflict, SettingsError
from app.local import files

#: What a fresh stack writes (two engines, their write-ahead logs, our logs) with some air.
NEEDED_BYTES = 200 * 1024 * 1024

#: Postgres keeps paths in 1024 bytes.
_LONGEST = 900

#: Start times are derived from the boot time, which moves when the clock is set.
_SAME_START_S = 1.0


class StackRunning(Conflict):
    """A stack runs in this home already."""

    code = "stack_running"


@dataclass(frozen=True)
class Home:
    """Where things are below `CLAWQ_HOME`.

    Attributes:
        path: absolute, without symbolic links.
    """

    path: Path

    @property
    def env_file(self) -> Path:
        return self.path / "stack.env"

    @property
    def record_file(self) -> Path:
        return self.path / "stack.json"

    @property
    def lock_file(self) -> Path:
        return self.path / "lock"

    @property
    def key_file(self) -> Path:
        return self.path / "api_key"

    @property
    def flower_password_file(self) -> Path:
        return self.path / "flower_password"

    @property
    def logs(self) -> Path:
        return self.path / "logs"

    def log(self, name: str) -> Path:
        return self.logs / f"{name}.log"


def locate(path: Path) -> Home:
    """The home at this path, whether it exists or not.

    Raises:
        SettingsError: the path cannot be a directory's.
    """
    try:
        found = path.expanduser().resolve()
        if len(os.fsencode(found)) > _LONGEST:
            raise SettingsError(f"CLAWQ_HOME is longer than {_LONGEST} bytes: choose a shorter path.")
        if found.exists() and not found.is_dir():
            raise SettingsError(f"CLAWQ_HOME {found} is not a directory.")
    except (OSError, RuntimeError) as exc:
        raise SettingsError(f"CLAWQ_HOME {path} cannot be used: {_why(exc)}.") from exc
    return Home(found)


def open_home(path: Path) -> Home:
    """The home at this path, made if need be, writable and with space left.

    Raises:
        SettingsError: says what is in the way.
    """
    home = locate(path)
    try:
        _make_private(home)
        files.private_dir(home.logs)
        probe = home.path / f".probe.{os.getpid()}"
        probe.touch()
        probe.unlink()
        free = shutil.disk_usage(home.path).free
    except OSError as exc:
        raise SettingsError(f"CLAWQ_HOME {home.path} cannot be used: {_why(exc)}.") from exc
    if free < NEEDED_BYTES:
        raise SettingsError(
            f"CLAWQ_HOME {home.path} has {free >> 20} MB of free space, and {NEEDED_BYTES >> 20} MB are needed."
        )
    return home


def _make_private(home: Home) -> None:
    if not home.path.exists():
        home.path.mkdir(mode=0o700, parents=True)
    # A directory with other things in it is not ours to close; what we put there is private in itself.
    elif home.lock_file.exists() or not any(home.path.iterdir()):
        home.path.chmod(0o700)


def is_writable(directory: Path) -> bool:
    """Whether this process can make files in the directory."""
    return os.access(directory, os.W_OK | os.X_OK)


def _why(exc: Exception) -> str:
    return (exc.strerror or str(exc)) if isinstance(exc, OSError) else str(exc)


def acquire(home: Home, patience_s: float = 1.0) -> IO[str]:
    """Take the home for this process. The lock is given back when the file is closed or the process ends.

    Args:
        home: an open home.
        patience_s: a look at the lock (`holder`) holds it for a moment.

    Raises:
        StackRunning: another supervisor has it.
    """
    file = open(home.lock_file, "a+", opener=lambda name, flags: os.open(name, flags, 0o600))  # noqa: SIM115
    deadline = time.monotonic() + patience_s
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            if time.monotonic() > deadline:
                file.close()
                raise StackRunning(running_sentence(home)) from None
            time.sleep(0.05)
    me = psutil.Process()
    file.truncate(0)
    file.write(json.dumps({"pid": me.pid, "create_time": me.create_time()}))
    file.flush()
    return file


def is_held(home: Home) -> bool:
    """Whether a supervisor lives in this home."""
    try:
        with home.lock_file.open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:
        return False
    except OSError as exc:
        raise SettingsError(f"CLAWQ_HOME {home.path} cannot be used: {_why(exc)}.") from exc
    return False


def holder(home: Home) -> psutil.Process | None:
    """The supervisor of this home, if one lives and is a process of this machine."""
    if not is_held(home):
        return None
    who = files.read_json(home.lock_file)
    return process_of(who.get("pid"), who.get("create_time"))


def process_of(pid: int | None, create_time: float | None) -> psutil.Process | None:
    """The living process with this id, if it is the one that started at this time (seconds since the epoch)."""
    if not pid or not create_time:
        return None
    try:
        process = psutil.Process(pid)
        same = abs(process.create_time() - create_time) < _SAME_START_S
        return process if same and process.status() != psutil.STATUS_ZOMBIE else None
    except psutil.Error:
        return None


def running_sentence(home: Home) -> str:
    """That a stack runs in this home, where, and how to stop it."""
    url = files.read_json(home.record_file).get("api_url")
    where = f" at {url}" if url else ""
    return f"A stack is already running in {home.path}{where}: stop it with `clawq down`."
