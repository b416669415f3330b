"""Runs one program and reports on it: PID 1 of a container, or the trusted parent of a confined process.

This file is sent into the sandbox as source: standard library only, Python 3.8 and later, cgroup v1 and v2. As PID 1,
non-dumpable and without capabilities, it cannot be killed, traced or written to by a program of its own uid.
"""

from __future__ import annotations

import base64
import contextlib
import ctypes
import json
import os
import resource
import selectors
import signal
import sys
import time
from typing import Any, NoReturn

from workers.sandbox.frames import END, JOB, KILL, PROGRESS, STARTED, STDERR, STDOUT, Unpacker, pack

#: Seconds between looks at CPU, memory and dead children.
TICK_S = 0.05
CHUNK = 65536
PROGRESS_FD = 3
#: Bytes of one progress line; a longer one is ignored up to its end.
PROGRESS_LINE = 1024
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
        with contextlib.suppress(ChildProcessError):
            pid, status = os.waitpid(-1, os.WNOHANG)
            while pid:
                if pid == self.pid:
                    ended = decode_status(status)
                pid, status = os.waitpid(-1, os.WNOHANG)
        return ended

    def kill_all(self) -> None:
        """Kill and reap every process but this one; as PID 1 that is all there are."""
        with contextlib.suppress(ChildProcessError):
            while True:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(-1, signal.SIGKILL)
                os.waitpid(-1, 0)


class Meter:
    """What the program used, from the container's cgroup where that can be read."""

    #: The program broke a limit that the kernel does not enforce here: the reason in the end frame.
    def breach(self, limits: dict[str, Any]) -> str | None:
        return "cpu_limit" if self.cpu_s() > limits["cpu_s"] else None

    def __init__(self) -> None:
        self._cpu_before = 0.0
        self._cpu_before = self.cpu_s()

    def cpu_s(self) -> float:
        root = "/sys/fs/cgroup/"
        nanos = read_number(root + "cpuacct/cpuacct.usage") or read_number(root + "cpu,cpuacct/cpuacct.usage")
        micros = read_number(root + "cpu.stat", "usage_usec")
        used = nanos / 1e9 if nanos is not None else micros / 1e6 if micros is not None else children_cpu_s()
        return used - self._cpu_before

    def peak_bytes(self) -> int:
        peak = read_number("/sys/fs/cgroup/memory/memory.max_usage_in_bytes")
        return (
            peak
            or read_number("/sys/fs/cgroup/memory.peak")
            or resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
        )

    def oom_killed(self) -> bool:
        for path in ("memory/memory.oom_control", "memory.events"):
            if read_number("/sys/fs/cgroup/" + path, "oom_kill"):
                return True
        return False


class Supervision:
    """One program from its start to its end frame."""

    def __init__(self, job: dict[str, Any], program: Program, meter: Meter, inbox: Unpacker) -> None:
        self._job, self._program, self._meter, self._inbox = job, program, meter, inbox
        self._stdin = memoryview(base64.b64decode(job["stdin"]))
        self._line = b""
        self._bytes_out = 0
        self._reason: str | None = None
        self._began = time.monotonic()
        self._selector = selectors.DefaultSelector()
        self._selector.register(0, selectors.EVENT_READ, self._on_channel)
        self._selector.register(program.stdout, selectors.EVENT_READ, self._on_stdout)
        self._selector.register(program.stderr, selectors.EVENT_READ, self._on_stderr)
        self._selector.register(program.progress, selectors.EVENT_READ, self._on_progress)
        self._selector.register(program.stdin, selectors.EVENT_WRITE, self._feed_stdin)
        if hasattr(os, "pidfd_open"):
            with contextlib.suppress(OSError):
                pidfd = os.pidfd_open(program.pid)
                self._selector.register(pidfd, selectors.EVENT_READ, lambda fd: self._selector.unregister(fd))

    def run(self) -> None:
        ended = None
        next_look = 0.0
        while ended is None and self._reason is None:
            for key, _ in self._selector.select(TICK_S):
                key.data(key.fd)
            ended = self._program.poll()
            if ended is None and time.monotonic() >= next_look:
                self._reason = self._reason or self._meter.breach(self._job["limits"])
                next_look = time.monotonic() + TICK_S
        wall_s = time.monotonic() - self._began
        oom_kill = self._meter.oom_killed()
        self._program.kill_all()
        self._drain()
        exit_code, number = ended or (None, None)
        if number is not None and self._reason is None:
            self._reason = self._meter.breach(self._job["limits"])
        report = {
            "exit_code": exit_code,
            "signal": number,
            "reason": self._reason,
            "oom_kill": oom_kill,
            "wall_ms": round(wall_s * 1000),
            "cpu_ms": round(children_cpu_s() * 1000),
            "peak_memory_bytes": self._meter.peak_bytes(),
        }
        send(END, json.dumps(report).encode())

    def _on_channel(self, fd: int) -> None:
        data = os.read(fd, CHUNK)
        if not data:
            # The worker is gone: nobody waits for this program.
            self._program.kill_all()
            os._exit(1)
        if any(kind == KILL for kind, _ in self._inbox.feed(data)):
            self._reason = "killed"

    def _on_stdout(self, fd: int) -> bool:
        return self._forward(fd, STDOUT)

    def _on_stderr(self, fd: int) -> bool:
        return self._forward(fd, STDERR)

    def _forward(self, fd: int, kind: bytes) -> bool:
        data = self._read(fd)
        if data:
            self._bytes_out += len(data)
            send(kind, data)
            if self._bytes_out > self._job["output_cap"]:
                self._reason = "output_limit"
        return bool(data)

    def _on_progress(self, fd: int) -> bool:
        data = self._read(fd)
        *lines, rest = (self._line + data).split(b"\n")
        # One byte past the bound is kept, so that the rest of an over-long line stays over-long.
        self._line = rest[: PROGRESS_LINE + 1]
        latest = [report for report in map(parse_progress, lines) if report]
        for report in latest[-20:]:
            send(PROGRESS, json.dumps(report).encode())
        return bool(data)

    def _read(self, fd: int) -> bytes:
        try:
            data = os.read(fd, CHUNK)
        except BlockingIOError:
            return b""
        if not data:
            self._selector.unregister(fd)
            os.close(fd)
        return data

    def _feed_stdin(self, fd: int) -> None:
        try:
            self._stdin = self._stdin[os.write(fd, self._stdin[:CHUNK]) :] if self._stdin else self._stdin
        except BlockingIOError:
            return
        except OSError:
            self._stdin = self._stdin[:0]
        if not self._stdin:
            self._selector.unregister(fd)
            os.close(fd)

    def _drain(self) -> None:
        """What is left in the pipes. Every writer is dead, so this is no more than the pipes hold."""
        for fd, read in (
            (self._program.stdout, self._on_stdout),
            (self._program.stderr, self._on_stderr),
            (self._program.progress, self._on_progress),
        ):
            while fd in self._selector.get_map() and read(fd):
                pass


def parse_progress(line: bytes) -> dict[str, Any] | None:
    """`{"progress": 0-100, "note"?}` from one line, or None if it is anything else."""
    if not 0 < len(line) <= PROGRESS_LINE:
        return None
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return None
    percent = value.get("progress") if isinstance(value, dict) else None
    if isinstance(percent, bool) or not isinstance(percent, (int, float)) or not 0 <= percent <= 100:  # noqa: UP038
        return None
    note = value.get("note")
    return {"progress": int(percent), "note": note if isinstance(note, str) else None}


def decode_status(status: int) -> tuple[int | None, int | None]:
    """(exit code, signal) of a wait status: one of them is None."""
    if os.WIFSIGNALED(status):
        return None, os.WTERMSIG(status)
    return os.WEXITSTATUS(status), None


def children_cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def read_number(path: str, key: str | None = None) -> int | None:
    """The number in a cgroup file, or the one after `key`; None if there is none."""
    try:
        with open(path) as file:
            words = file.read().split()
        return int(words[words.index(key) + 1] if key else words[0])
    except (OSError, ValueError, IndexError):
        return None


def send(kind: bytes, payload: bytes = b"") -> None:
    data = memoryview(pack(kind, payload))
    while data:
        data = data[os.write(1, data) :]


def receive_job(inbox: Unpacker) -> dict[str, Any]:
    """The job from the worker. Exits quietly if the worker left before sending it."""
    while True:
        data = os.read(0, CHUNK)
        if not data:
            os._exit(0)
        for kind, payload in inbox.feed(data):
            if kind == JOB:
                job: dict[str, Any] = json.loads(payload)
                return job
            os._exit(0)


def write_files(job: dict[str, Any], workspace: str) -> None:
    """Put the code and the files of the job under `workspace`. Raises Refused if they do not fit there."""
    try:
        os.makedirs(os.path.join(workspace, "out"), exist_ok=True)
        for name, content in job["files"].items():
            path = os.path.join(workspace, name)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "wb") as file:
                file.write(base64.b64decode(content))
    except OSError as exc:
        raise Refused("the code and files cannot be written: %s" % exc.strerror) from None


def command(job: dict[str, Any], workspace: str, python: str) -> list[str]:
    if job["argv"]:
        return [*job["argv"], *job["args"]]
    interpreter = python if job["main"].endswith(".py") else "/bin/sh"
    return [interpreter, os.path.join(workspace, job["main"]), *job["args"]]


def environment(job: dict[str, Any], workspace: str) -> dict[str, str]:
    base = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": workspace, "LANG": "C.UTF-8"}
    return {**base, **job["env"], "CLAWQ_PROGRESS_FD": str(PROGRESS_FD)}


def fork_program(job: dict[str, Any], workspace: str) -> Program:
    """Fork and exec the program of the job, with pipes for its standard streams and its progress."""
    pipes = [os.pipe() for _ in range(4)]
    child_ends = [pipes[0][0], pipes[1][1], pipes[2][1], pipes[3][1]]
    our_ends = [pipes[0][1], pipes[1][0], pipes[2][0], pipes[3][0]]
    pid = os.fork()
    if pid == 0:
        _become(job, workspace, child_ends)
    for fd in child_ends:
        os.close(fd)
    return Program(pid, *our_ends)


def _become(job: dict[str, Any], workspace: str, ends: list[int]) -> NoReturn:
    """Turn this forked child into the program."""
    try:
        # Move the pipes out of the way first: one of them may sit on a number that another must get.
        high = [os.dup2(fd, 100 + i) for i, fd in enumerate(ends)]
        for target, fd in zip((0, 1, 2, PROGRESS_FD), high):  # noqa: B905 - Python 3.8
            os.dup2(fd, target, inheritable=True)
        os.closerange(PROGRESS_FD + 1, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
        # Only now, with the frame channel closed: a non-dumpable process may not write its own /proc files.
        set_dumpable(True)
        with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
            file.write("1000")
        cpu_s = int(job["limits"]["cpu_s"]) + 1
        resource.setrlimit(resource.RLIMIT_CPU, (cpu_s + 1, cpu_s + 1))
        for number in (signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_DFL)
        os.setsid()
        os.chdir(workspace)
        argv = command(job, workspace, sys.executable)
        os.execvpe(argv[0], argv, environment(job, workspace))  # noqa: S606
    except OSError as exc:
        os.write(2, ("cannot start the program: %s\n" % exc).encode(errors="replace"))
    finally:
        os._exit(127)


def set_dumpable(on: bool) -> None:
    """Raises OSError if the kernel refuses."""
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_DUMPABLE, int(on), 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_DUMPABLE)")


def main() -> None:
    """The life of PID 1 in a container."""
    set_dumpable(False)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    workspace = "/workspace"
    inbox = Unpacker()
    job = receive_job(inbox)
    try:
        write_files(job, workspace)
    except Refused as exc:
        send(END, json.dumps({"reason": "refused", "detail": str(exc)}).encode())
        return
    send(STARTED)
    meter = Meter()
    Supervision(job, fork_program(job, workspace), meter, inbox).run()
