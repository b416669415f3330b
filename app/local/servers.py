"""A database server process of ours: how to start it, and how to tell that it answers."""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from app.errors import ClawqError
from app.local.accounts import Account, engine_env

#: Seconds between two looks at a server that is starting.
_POLL_S = 0.03


class ServerFailed(ClawqError):
    """A database server did not start."""

    code = "server_failed"


@dataclass(frozen=True)
class Server:
    """One server process, ready to be started.

    Attributes:
        name: its role in the stack: `postgres`, `redis` or `chroma`.
        version: what the binary says it is, for people.
        argv: the command.
        cwd: where it starts.
        account: whom it runs as.
        stop_signal: asks it to save and end at once.
        url: where clients connect, password included.
        check: returns once the server answers and is fit for use; raises `Exception` until then.
        variables: what its environment has beside what all engines see.
        required: whether a stack waits for it, and does not start without it.
    """

    name: str
    version: str
    argv: tuple[str, ...]
    cwd: Path
    account: Account
    stop_signal: signal.Signals
    url: str = field(repr=False)
    check: Callable[[], None] = field(repr=False)
    variables: Mapping[str, str] = field(default_factory=dict)
    required: bool = True

    @property
    def env(self) -> dict[str, str]:
        """Its whole environment."""
        return {**engine_env(), **self.variables}


def wait_until_ready(server: Server, is_alive: Callable[[], bool], timeout_s: float = 60) -> None:
    """Wait until the server answers.

    Raises:
        ServerFailed: it ended, or does not answer in time. Why is in its log.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            return server.check()
        except ServerFailed:
            raise
        except Exception as exc:  # every driver has its own way to say "not yet"
            if not is_alive():
                raise ServerFailed(f"{server.name} ({server.version}) ended while starting.") from exc
            if time.monotonic() > deadline:
                raise ServerFailed(f"{server.name} does not answer within {timeout_s:.0f} s: {exc}") from exc
        time.sleep(_POLL_S)


@contextmanager
def running(server: Server, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run the server for the length of the block, or of this process if that is killed.

    Raises:
        ServerFailed: with the end of its log.
    """
    with log.open("ab") as output:
        process = subprocess.Popen(
            server.argv,
            cwd=server.cwd,
            env=server.env,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            user=server.account.uid,
            group=server.account.gid,
            extra_groups=server.account.groups,
            start_new_session=True,
            preexec_fn=_die_with_parent(server.stop_signal),
        )
    try:
        try:
            wait_until_ready(server, lambda: process.poll() is None)
        except ServerFailed as exc:
            raise ServerFailed(f"{exc.detail}\n{log.read_text(errors='replace')[-2000:]}") from exc
        yield process
    finally:
        stop(process, server.stop_signal)


def stop(process: subprocess.Popen[bytes], sign: signal.Signals, timeout_s: float = 10) -> None:
    """Ask the process to end, then insist."""
    if process.poll() is None:
        process.send_signal(sign)
    try:
        process.wait(timeout_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _die_with_parent(sign: signal.Signals) -> Callable[[], None] | None:
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl
    pr_set_pdeathsig = 1
    return lambda: prctl(pr_set_pdeathsig, int(sign))


def which_all(names: tuple[str, ...]) -> Iterator[Path]:
    """The programs of these names on PATH and in the places where Debian keeps servers."""
    path = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/local/bin", "/usr/bin"))
    for name in names:
        found = shutil.which(name, path=path)
        if found:
            yield Path(found)
