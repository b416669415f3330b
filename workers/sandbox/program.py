"""Sets up one program and starts it: its files, its environment, its pipes, its own limits.

A Python script is run by a fork of this interpreter (`script.py`), anything else is executed.
This file is sent into the sandbox as source: standard library only, Python 3.8 and later.
"""

from __future__ import annotations

import _signal as signal
import ctypes
import os
import resource
import sys
from typing import Any

from workers.sandbox.lean import suppress
from workers.sandbox.script import runs_here

#: Where a program finds its progress pipe; also in its environment.
PROGRESS_FD = 3
PR_SET_DUMPABLE = 4


class Refused(Exception):
    """The job cannot be set up as it is: the sentence says why."""


class Program:
    """A started program and our ends of its pipes (non-blocking)."""

    def __init__(self, pid: int, stdin: int, stdout: int, stderr: int, progress: int) -> None:
        self.pid = pid
        self.stdin, self.stdout, self.stderr, self.progress = stdin, stdout, stderr, progress
        for fd in (stdin, stdout, stderr, progress):
            os.set_blocking(fd, False)

    def poll(self) -> tuple[int | None, int | None] | None:
        """(exit code, signal) once it has ended. Reaps orphans on the way."""
        ended = None
        with suppress(ChildProcessError):
            pid, status = os.waitpid(-1, os.WNOHANG)
            while pid:
                if pid == self.pid:
                    ended = decode_status(status)
                pid, status = os.waitpid(-1, os.WNOHANG)
        return ended

    def kill_all(self) -> None:
        """Kill and reap every process but this one; as PID 1 that is all there are."""
        with suppress(ChildProcessError):
            while True:
                with suppress(ProcessLookupError):
                    os.kill(-1, signal.SIGKILL)
                os.waitpid(-1, 0)


def decode_status(status: int) -> tuple[int | None, int | None]:
    """(exit code, signal) of a wait status: one of them is None."""
    if os.WIFSIGNALED(status):
        return None, os.WTERMSIG(status)
    return os.WEXITSTATUS(status), None


def write_files(job: dict[str, Any], workspace: str) -> None:
    """Put the code and the files of the job under `workspace`. Raises Refused if they do not fit there."""
    try:
        os.makedirs(os.path.join(workspace, "out"), exist_ok=True)
        for name, content in job["files"].items():
            path = os.path.join(workspace, name)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "wb") as file:
                file.write(content)
    except OSError as exc:
        raise Refused(f"the code and files cannot be written: {exc.strerror}") from None


def command(job: dict[str, Any], workspace: str, python: str) -> list[str]:
    """The argument vector of the program of the job, if it is executed."""
    if job["argv"]:
        return [*job["argv"], *job["args"]]
    interpreters = {".py": python, ".sh": "/bin/sh", ".js": "node"}
    main = job["main"]
    return [interpreters[os.path.splitext(main)[1]], os.path.join(workspace, main), *job["args"]]


def environment(job: dict[str, Any], workspace: str) -> dict[str, str]:
    base = {
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "HOME": workspace,
        "LANG": "C.UTF-8",
        # Output into a pipe would otherwise show only when the program ends.
        "PYTHONUNBUFFERED": "1",
    }
    return {**base, **job["env"], "CLAWQ_PROGRESS_FD": str(PROGRESS_FD)}


def fork_program(job: dict[str, Any], workspace: str) -> Program | None:
    """Fork the program of the job, with pipes for its standard streams and its progress.

    Returns:
        None in the child, if it is a script for this interpreter: it is now set up to run it.
    """
    pipes = [os.pipe() for _ in range(4)]
    child_ends = [pipes[0][0], pipes[1][1], pipes[2][1], pipes[3][1]]
    our_ends = [pipes[0][1], pipes[1][0], pipes[2][0], pipes[3][0]]
    pid = os.fork()
    if pid == 0:
        _become(job, workspace, child_ends)
        return None
    for fd in child_ends:
        os.close(fd)
    return Program(pid, *our_ends)


def _become(job: dict[str, Any], workspace: str, ends: list[int]) -> None:
    """Turn this forked child into the program. Returns if it is to be run by this interpreter."""
    try:
        # Move the pipes out of the way first: one of them may sit on a number that another must get.
        high = [os.dup2(fd, 100 + i) for i, fd in enumerate(ends)]
        for target, fd in zip((0, 1, 2, PROGRESS_FD), high):  # noqa: B905 - Python 3.8
            os.dup2(fd, target, inheritable=True)
        os.closerange(PROGRESS_FD + 1, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
        # Only now, with the frame channel closed: a non-dumpable process may not write its own /proc files.
        set_dumpable(True)
        with suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
            file.write("1000")
        _limit(job["limits"])
        if os.getuid() == 0:
            _give_up_root(job["limits"]["pids"])
        os.setsid()
        os.chdir(workspace)
        if runs_here(job):
            return
        for number in (signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_DFL)
        argv = command(job, workspace, sys.executable)
        os.execvpe(argv[0], argv, environment(job, workspace))  # noqa: S606
    except (OSError, ValueError) as exc:
        os.write(2, f"cannot start the program: {exc}\n".encode(errors="replace"))
        os._exit(127)


def _limit(limits: dict[str, Any]) -> None:
    """What the program may have less of than its container."""
    # The supervisor looks at the CPU time of all processes; this is for one that it gets no turn beside.
    cpu_s = int(limits["cpu_s"]) + 2
    wanted = (
        (resource.RLIMIT_CPU, cpu_s),
        (resource.RLIMIT_FSIZE, limits["file_mb"] << 20),
        (resource.RLIMIT_NOFILE, limits["open_files"]),
    )
    for which, value in wanted:
        hard = resource.getrlimit(which)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(which, (value, value))


def stand_apart(uid: int) -> None:
    """As root: have the rights of user `uid`, but not its id, so that no process of that user reaches this one."""
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(0, uid, 0)


def _give_up_root(pids: int) -> None:
    """In the program, where its supervisor stands apart: have that user's id alone, and so many processes of it."""
    uid = os.geteuid()
    resource.setrlimit(resource.RLIMIT_NPROC, (pids, pids))
    os.setresuid(uid, uid, uid)


def set_dumpable(on: bool) -> None:
    """Raises OSError if the kernel refuses."""
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_DUMPABLE, int(on), 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_DUMPABLE)")
