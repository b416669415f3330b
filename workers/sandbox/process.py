"""The process sandbox: Landlock and seccomp by way of the sandlock package, for machines without a container engine.

A run is a process of its own (`confined.py`) that speaks the protocol of the container's supervisor. Its work directory
is a private one under the temporary directory: a program finds it as its current directory and as $HOME, not as
/workspace. Shared memory between processes (/dev/shm, and with it multiprocessing's locks) is not available.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import IO

from workers.sandbox import confined, descendants
from workers.sandbox.conversation import Conversation, Link, LinkError, failed, rejected
from workers.sandbox.frames import FrameError
from workers.sandbox.job import problem
from workers.sandbox.source import bundle
from workers.sandbox.spec import Callbacks, SandboxResult, SandboxSpec, Stop
from workers.sandbox.verdict import judge

#: Seconds a guard gets to kill what is left of a run.
REAP_S = 10

#: What a program may exceed for a moment, or see, on any machine.
UNENFORCED = (
    "memory and CPU are measured 20 times a second and disk twice, not bounded by the kernel",
    "the number of files, and kernel memory for pipes and sockets, are not limited",
    "the host's /proc/net, mount table and load, and which files exist on it, can be read",
)
#: And where the worker is not root.
UNENFORCED_UNPRIVILEGED = (
    "the limit on pids counts processes, not threads",
    f"open files are not limited to less than {confined.OPEN_FILES}",
    "the program runs under the worker's user id (so it may not change modes, owners or times of files)",
)


class ProcessSandbox:
    """Runs each program as a confined process. Safe to use from many threads."""

    name = "process"

    def __init__(self) -> None:
        self._python = find_python()
        self._unenforced = unenforced()

    def run(self, spec: SandboxSpec, *, stop: Stop, callbacks: Callbacks) -> SandboxResult:
        """See `Sandbox.run`."""
        sentence = problem(spec)
        if sentence is not None:
            return rejected(sentence, self.name)
        if self._python is None:
            return failed(NO_PYTHON, self.name)
        asked = [name for name in ("image", "runtime", "network") if getattr(spec, name) is not None]
        if asked:
            return failed(f"The process sandbox has no choice of {' or '.join(asked)}: this needs docker.", self.name)
        try:
            return self._run(spec, stop, callbacks, self._python)
        except (LinkError, FrameError) as exc:
            return failed(f"The sandbox broke: {exc}", self.name)

    def open(self) -> None:
        """There is nothing to prepare."""

    def reap(self, is_orphan: Callable[[str, str], bool]) -> list[str]:
        """Nothing is left: the guard of a run ends with its worker."""
        return []

    def waiting(self) -> int:
        """Nothing waits: a run starts its own process."""
        return 0

    def close(self) -> None:
        """There is nothing to remove."""

    def _run(self, spec: SandboxSpec, stop: Stop, callbacks: Callbacks, python: Path) -> SandboxResult:
        with _private_directory() as root, tempfile.TemporaryFile() as log, _runner(root, log) as (process, sock):
            callbacks.started(f"pid-{process.pid}")
            # An interpreter outside /usr brings its library along, and nothing else of where it lives.
            readable = [str(python), str(python.parents[1] / "lib")]
            heard = Conversation(spec, stop, callbacks).hold(Link(sock), python=str(python), readable=readable)
            ending = heard.ending
            if not (ending.report or ending.cause):
                if not ending.started:
                    raise LinkError(f"the supervisor did not start: {_last_line(log)}.")
                # It ran and fell silent, which a program can bring about: nothing that should buy it a retry.
                ending = ending.silenced(signal=signal.SIGKILL)
            judgement = judge(ending, spec.limits)
            return heard.result(judgement, sandbox=self.name, unenforced=self._unenforced)


@contextmanager
def _runner(root: str, log: IO[bytes]) -> Iterator[tuple[subprocess.Popen[bytes], socket.socket]]:
    """A guard with its supervisor, and the socket to them; afterwards they and all below them are gone."""
    ours, theirs = socket.socketpair()
    with ours:
        with theirs:
            process = subprocess.Popen(
                [*_command(), root],
                stdin=theirs.fileno(),
                stdout=theirs.fileno(),
                stderr=log,
                cwd="/",
                # Not ours; but sandlock wants to know some home directory.
                env={"HOME": "/"},
                start_new_session=True,
            )
        try:
            yield process, ours
        finally:
            # End of file: a supervisor that still runs kills its program and leaves, and the guard makes sure.
            ours.close()
            try:
                process.wait(REAP_S)
            except subprocess.TimeoutExpired:
                # The supervisor hangs. Without it the guard does the rest.
                for pid in descendants.descendants(process.pid):
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                process.wait()


@cache
def _command() -> tuple[str, ...]:
    package = importlib.util.find_spec("sandlock")
    packages = str(Path(package.origin).parents[1]) if package and package.origin else ""
    # -S: reading every .pth file of the environment would double the start time.
    return (sys.executable, "-I", "-S", "-c", bundle(descendants, confined, path=packages))


@contextmanager
def _private_directory() -> Iterator[str]:
    root = tempfile.mkdtemp(prefix="clawq-")
    try:
        yield root
    finally:
        shutil.rmtree(root, onerror=_open_up)


def _open_up(function: object, path: str, _error: object) -> None:
    """A directory that the program made unreadable: open it and try again, once."""
    for directory in (os.path.dirname(path), path):
        if os.path.isdir(directory) and not os.path.islink(directory):
            os.chmod(directory, 0o700)
    shutil.rmtree(path, ignore_errors=True) if os.path.isdir(path) else Path(path).unlink(missing_ok=True)


def _last_line(log: IO[bytes]) -> str:
    log.seek(max(0, log.seek(0, os.SEEK_END) - 2000))
    return log.read().decode(errors="replace").strip().rpartition("\n")[2] or "nothing was said"


def unenforced() -> tuple[str, ...]:
    """What a run here is not kept from, one phrase each."""
    return UNENFORCED if os.geteuid() == 0 else (*UNENFORCED, *UNENFORCED_UNPRIVILEGED)


def find_python() -> Path | None:
    """An interpreter that the user id of a run may execute, best the one that runs us."""
    candidates = (Path(os.path.realpath(sys.executable)), Path("/usr/bin/python3"), Path("/usr/local/bin/python3"))
    return next((path for path in candidates if path.is_file() and _reachable(path)), None)


NO_PYTHON = "No python3 is readable by an unprivileged user: install one under /usr, or use the docker sandbox."


def _reachable(path: Path) -> bool:
    """Whether others than the owner may use `path`; as ourselves, whether we may."""
    if os.geteuid() != 0:
        return os.access(path, os.X_OK)
    return all(place.stat().st_mode & stat.S_IXOTH for place in (path, *path.parents))


def probe() -> str | None:
    """Why this machine cannot confine processes, as one sentence, or None if it can."""
    if importlib.util.find_spec("sandlock") is None:
        return "The sandlock package is not installed."
    try:
        import sandlock
    except (ImportError, OSError, RuntimeError) as exc:
        return f"The sandlock package cannot be loaded: {exc}."
    offered, needed = sandlock.landlock_abi_version(), sandlock.min_landlock_abi()
    if offered < needed:
        has = f"offers Landlock ABI {offered}" if offered > 0 else "has no Landlock"
        return f"The kernel {has}, but ABI {needed} is needed: Linux 6.12 or later with Landlock enabled."
    if not os.path.exists(f"/proc/self/task/{os.getpid()}/children"):
        return "The kernel does not list children in /proc (CONFIG_PROC_CHILDREN), so no run could be ended for sure."
    return None if find_python() else NO_PYTHON
