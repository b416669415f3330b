"""Starting, stopping and looking at a stack from another process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil

from app.errors import ClawqError
from app.local import home as homes
from app.local import record
from app.local.home import Home
from app.local.plan import DRAIN_MARGIN_S, StartFailed

#: A supervisor's log is small; it starts anew past this size.
_LOG_BYTES = 1024 * 1024

#: Seconds that `down` allows beyond what the processes and the engines may take.
_PATIENCE_S = 15.0


class StopFailed(ClawqError):
    """The stack does not stop."""

    code = "stop_failed"


class Starting:
    """A supervisor that we started, and what it reports.

    With `leash` it lives as long as this object's process does; otherwise it stays when we go.
    """

    def __init__(
        self,
        home: Home,
        *,
        leash: bool,
        procfile: Path | None = None,
        without: Sequence[str] = (),
        bare: bool = False,
    ) -> None:
        self.home = home
        arguments = ["--leash"] if leash else []
        arguments += [f"--without={name}" for name in without]
        arguments += ["--procfile", str(procfile)] if procfile else []
        arguments += ["--bare"] if bare else []
        log = home.log("supervisor")
        too_long = log.exists() and log.stat().st_size > _LOG_BYTES
        flags = os.O_WRONLY | os.O_CREAT | (os.O_TRUNC if too_long else os.O_APPEND)
        with os.fdopen(os.open(log, flags, 0o600), "ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", "app.local.supervisor", str(home.path), *arguments],
                stdin=subprocess.PIPE if leash else subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=output,
                # A Ctrl-C in the terminal is ours to pass on, once.
                start_new_session=True,
            )

    def events(self) -> Iterator[dict[str, Any]]:
        """What it reports, until it ends.

        Raises:
            StartFailed: it says so, or ends without a word.
        """
        assert self.process.stdout is not None
        for line in self.process.stdout:
            event = json.loads(line)
            if event["event"] == "failed":
                self.process.wait()
                raise StartFailed(event["sentence"], Path(event["log"]) if event["log"] else None)
            yield event
        if self.process.wait() != 0:
            raise StartFailed("The supervisor ended unexpectedly.", self.home.log("supervisor"))

    def stop(self) -> None:
        """Ask it to stop; `events` goes on until it has."""
        self.process.terminate()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()


@dataclass(frozen=True)
class Status:
    """What there is to know about a stack from outside.

    Attributes:
        home: where.
        running: whether a supervisor lives in it.
        urls: where clients find what listens, as `record.URLS` calls it.
        processes: those that the supervisor started.
        left: the pids of processes that a killed supervisor left.
    """

    home: Home
    running: bool
    urls: Mapping[str, str]
    processes: tuple[record.Member, ...]
    left: tuple[int, ...] = ()


def status(home: Home) -> Status:
    """Look at the stack in this home. A process whose pid is gone counts as restarting."""
    running = homes.is_held(home)
    if not running:
        return Status(home, running, {}, (), tuple(process.pid for _, process in record.orphans(home)))
    found = record.read(home)
    urls = {name: found[name] for name in record.URLS if name in found}
    return Status(home, running, urls, tuple(_checked(p) for p in found.get("processes", [])))


def _checked(entry: dict[str, Any]) -> record.Member:
    member = record.Member(**entry)
    if member.state == "running" and homes.process_of(member.pid, member.create_time) is None:
        return record.Member(member.name, member.role, None, None, "restarting")
    return member


def stop(home: Home, drain_s: float) -> bool:
    """Stop the stack in this home, if one runs, and wait until it has stopped.

    Args:
        home: where.
        drain_s: what its workers may take to finish.

    Returns:
        Whether there was anything to stop.

    Raises:
        StopFailed: its supervisor is out of reach, or takes too long.
    """
    if not homes.is_held(home):
        return _stop_orphans(home, drain_s)
    supervisor = homes.holder(home)
    if supervisor is None:
        raise StopFailed(f"{home.path} is in use by a process that is not on this machine: stop it there.")
    try:
        supervisor.terminate()
    except psutil.AccessDenied:
        raise StopFailed(f"The supervisor (pid {supervisor.pid}) is another user's: stop it as that user.") from None
    except psutil.NoSuchProcess:
        pass
    deadline = time.monotonic() + drain_s + DRAIN_MARGIN_S + record.ENGINE_GRACE_S + _PATIENCE_S
    while homes.is_held(home):
        if time.monotonic() > deadline:
            raise StopFailed(f"The supervisor (pid {supervisor.pid}) does not stop: see {home.log('supervisor')}.")
        time.sleep(0.05)
    return True


def restart(home: Home, name: str, timeout_s: float) -> None:
    """Let a process of the running stack end and start again, and wait until it has started.

    Raises:
        StopFailed: no such process runs here, or another does not come in its place.
    """
    member = next((one for one in status(home).processes if one.name == name), None)
    process = homes.process_of(member.pid, member.create_time) if member else None
    if process is None:
        raise StopFailed(f"No stack in {home.path} runs a process {name} now.")
    process.send_signal(record.ENGINES.get(name, signal.SIGTERM))
    deadline = time.monotonic() + timeout_s
    while not any(one.name == name and one.pid not in (None, process.pid) for one in status(home).processes):
        if time.monotonic() > deadline:
            raise StopFailed(f"{name} (pid {process.pid}) has not started again: see {home.log(name)}.")
        time.sleep(0.05)


def _stop_orphans(home: Home, drain_s: float) -> bool:
    if not home.record_file.exists():
        return False
    with homes.acquire(home):
        left = record.orphans(home)
        record.end(left, drain_s + DRAIN_MARGIN_S)
        record.clear(home)
    return bool(left)
