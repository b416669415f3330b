"""Runs one program and reports on it: PID 1 of a container, or the trusted parent of a confined process.

This file is sent into the sandbox as source: standard library only, Python 3.8 and later. As PID 1,
non-dumpable and without capabilities, it cannot be killed, traced or written to by a program of its own uid.
"""

from __future__ import annotations

import _signal as signal
import marshal
import os
import select
import sys
import time
from collections.abc import Callable
from typing import Any, NoReturn

from workers.sandbox.collect import Collection
from workers.sandbox.frames import END, JOB, KILL, PROGRESS, READY, STARTED, STDERR, STDOUT, Unpacker, pack
from workers.sandbox.lean import suppress, to_json
from workers.sandbox.meter import Meter, children_cpu_s
from workers.sandbox.program import Program, Refused, environment, fork_program, set_dumpable, stand_apart, write_files
from workers.sandbox.script import preload, run_script

#: Seconds between looks at CPU, memory and dead children.
TICK_S = 0.05
READ_BYTES = 65536
#: Bytes of one progress line; a longer one is ignored up to its end.
PROGRESS_LINE = 1024
WORKSPACE = "/workspace"
#: The kernel's version in every gVisor (its pkg/sentry/syscalls/linux).
GVISOR = "#1 SMP Sun Jan 10 15:06:54 PST 2016"
#: What a program may write in.
WRITABLE = (WORKSPACE, "/tmp", "/dev/shm")  # noqa: S108


class Supervision:
    """One program from its start to its end frame."""

    def __init__(self, job: dict[str, Any], program: Program, meter: Meter, inbox: Unpacker) -> None:
        self._job, self._program, self._meter, self._inbox = job, program, meter, inbox
        self._stdin = memoryview(job["stdin"])
        self._line = b""
        self._progress: dict[str, Any] | None = None
        self._bytes_out = 0
        self._reason: str | None = None
        self._began = time.monotonic()
        self._poll = select.poll()
        self._handlers: dict[int, Callable[[int], object]] = {}
        self._await(0, self._on_channel)
        self._await(program.stdout, self._on_stdout)
        self._await(program.stderr, self._on_stderr)
        self._await(program.progress, self._on_progress)
        self._await(program.stdin, self._feed_stdin, select.POLLOUT)
        if hasattr(os, "pidfd_open"):
            with suppress(OSError):
                self._await(os.pidfd_open(program.pid), self._forget)

    def run(self) -> None:
        ended = None
        next_look = 0.0
        while ended is None and self._reason is None:
            for fd, _ in self._poll.poll(TICK_S * 1000):
                self._handlers[fd](fd)
            ended = self._program.poll()
            if ended is None and time.monotonic() >= next_look:
                self._reason = self._reason or self._meter.breach(self._job["limits"])
                self._send_progress()
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
            "limits_hit": self._meter.limits_hit(self._job["limits"], number),
            "wall_ms": round(wall_s * 1000),
            "cpu_ms": round(children_cpu_s() * 1000),
            "peak_memory_bytes": self._meter.peak_bytes(),
        }
        # Before the artifacts: whatever they are like, how the program ended is known.
        send(END, to_json(report).encode())

    def _await(self, fd: int, handler: Callable[[int], object], event: int = select.POLLIN) -> None:
        self._handlers[fd] = handler
        self._poll.register(fd, event)

    def _forget(self, fd: int) -> None:
        del self._handlers[fd]
        self._poll.unregister(fd)

    def _on_channel(self, fd: int) -> None:
        data = os.read(fd, READ_BYTES)
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
        for line in lines:
            self._progress = parse_progress(line) or self._progress
        return bool(data)

    def _send_progress(self) -> None:
        """The latest report, at most once a tick however many there are."""
        if self._progress:
            send(PROGRESS, to_json(self._progress).encode())
            self._progress = None

    def _read(self, fd: int) -> bytes:
        try:
            data = os.read(fd, READ_BYTES)
        except BlockingIOError:
            return b""
        if not data:
            self._forget(fd)
            os.close(fd)
        return data

    def _feed_stdin(self, fd: int) -> None:
        try:
            self._stdin = self._stdin[os.write(fd, self._stdin[:READ_BYTES]) :] if self._stdin else self._stdin
        except BlockingIOError:
            return
        except OSError:
            self._stdin = self._stdin[:0]
        if not self._stdin:
            self._forget(fd)
            os.close(fd)

    def _drain(self) -> None:
        """What is left in the pipes. Every writer is dead, so this is no more than the pipes hold."""
        for fd, read in (
            (self._program.stdout, self._on_stdout),
            (self._program.stderr, self._on_stderr),
            (self._program.progress, self._on_progress),
        ):
            while fd in self._handlers and read(fd):
                pass
        self._send_progress()


def parse_progress(line: bytes) -> dict[str, Any] | None:
    """`{"progress": 0-100, "note"?}` from one line, or None if it is anything else."""
    if not 0 < len(line) <= PROGRESS_LINE:
        return None
    # Here, since most programs report none.
    import json

    try:
        # As text: json would look for other encodings, which a supervisor that may read nothing cannot load.
        value = json.loads(line.decode())
    except (ValueError, RecursionError):
        return None
    percent = value.get("progress") if isinstance(value, dict) else None
    if isinstance(percent, bool) or not isinstance(percent, (int, float)) or not 0 <= percent <= 100:
        return None
    note = value.get("note")
    return {"progress": int(percent), "note": note if isinstance(note, str) else None}


def send(kind: bytes, payload: bytes = b"") -> None:
    data = memoryview(pack(kind, payload))
    while data:
        data = data[os.write(1, data) :]


def receive_job(inbox: Unpacker) -> dict[str, Any]:
    """The job from the worker. Exits quietly if the worker left before sending it."""
    while True:
        data = os.read(0, READ_BYTES)
        if not data:
            os._exit(0)
        for kind, payload in inbox.feed(data):
            if kind == JOB:
                job: dict[str, Any] = marshal.loads(payload)  # noqa: S302 - from the worker
                return job
            os._exit(0)


def refuse(sentence: str) -> None:
    """The last word about a job that cannot be set up."""
    send(END, to_json({"reason": "refused", "detail": sentence}).encode())


def main() -> Callable[[], NoReturn] | None:
    """The life of PID 1 in a container.

    Returns:
        Only in the fork that is to run a Python script: what to call next, at the top of the stack.
    """
    set_dumpable(False)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    if os.getuid() == 0:
        stand_apart(os.stat(WORKSPACE).st_uid)
    elif os.uname().version == GVISOR:
        sys.exit("this is gVisor, where a supervisor needs other rights: call the runtime runsc")
    # Nothing is ever imported from where a program may write.
    sys.path[:] = [path for path in sys.path if path and not path.startswith(WRITABLE)]
    if not select.select([0], [], [], 0)[0]:
        preload()
        send(READY)
    inbox = Unpacker()
    job = receive_job(inbox)
    try:
        write_files(job, WORKSPACE)
    except Refused as exc:
        refuse(str(exc))
        return None
    send(STARTED)
    meter = Meter(WRITABLE)
    program = fork_program(job, WORKSPACE)
    if program is None:
        return lambda: run_script(os.path.join(WORKSPACE, job["main"]), job["args"], environment(job, WORKSPACE))
    Supervision(job, program, meter, inbox).run()
    Collection(job["artifacts"], send).run(WORKSPACE)
    return None
