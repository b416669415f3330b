"""The worker's side of a run: sends the job, hears the frames, watches the clock and the stop flag."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from workers.sandbox.frames import END, JOB, KILL, PROGRESS, STARTED, STDERR, STDOUT, Unpacker, pack
from workers.sandbox.job import encode_job
from workers.sandbox.output import Keeper
from workers.sandbox.spec import Callbacks, SandboxResult, SandboxSpec, Stop, Verdict
from workers.sandbox.verdict import Cause, Ending, Judgement

#: Seconds between looks at the stop flag.
LOOK_S = 0.1
#: Seconds a supervisor gets to report after it was told to kill the program; then the sandbox is destroyed.
GRACE_S = 0.5
#: Seconds from the start of a sandbox to the start of its program.
BOOT_S = 30.0
#: Seconds to hand over the job.
SEND_S = 30.0


class LinkError(Exception):
    """The connection to a supervisor broke. The text is a sentence for people."""


class Link:
    """A byte stream to a supervisor over a socket; `decode` takes a transport's own framing off what arrives."""

    def __init__(self, sock: socket.socket, decode: Callable[[bytes], bytes] = bytes) -> None:
        self._sock = sock
        self._decode = decode

    def send(self, data: bytes) -> None:
        """Raises LinkError if the other side does not take it in time."""
        self._sock.settimeout(SEND_S)
        try:
            self._sock.sendall(data)
        except OSError as exc:
            raise LinkError(f"The sandbox does not take its job: {exc}.") from exc

    def receive(self) -> bytes | None:
        """What has arrived, b"" if nothing came within LOOK_S, None at the end of the stream."""
        self._sock.settimeout(LOOK_S)
        try:
            data = self._sock.recv(1 << 16)
        except TimeoutError:
            return b""
        except OSError:
            return None
        return self._decode(data) if data else None


@dataclass(frozen=True)
class Heard:
    """A finished conversation: how it ended and what was kept of the output."""

    ending: Ending
    stdout: Keeper
    stderr: Keeper

    def result(self, judgement: Judgement, *, sandbox: str, unenforced: tuple[str, ...] = ()) -> SandboxResult:
        report = self.ending.report or {}
        return SandboxResult(
            verdict=judgement.verdict,
            exit_code=judgement.exit_code,
            signal=judgement.signal,
            stdout=self.stdout.close(),
            stderr=self.stderr.close(),
            truncated=self.stdout.truncated or self.stderr.truncated,
            lossy=self.stdout.lossy or self.stderr.lossy,
            wall_ms=report.get("wall_ms"),
            cpu_ms=report.get("cpu_ms"),
            peak_memory_bytes=report.get("peak_memory_bytes"),
            sandbox=sandbox,
            unenforced=unenforced,
            error=judgement.error,
        )


class Conversation:
    """One run over a Link. Use `hold()` once."""

    def __init__(self, spec: SandboxSpec, stop: Stop, callbacks: Callbacks) -> None:
        self._spec, self._stop, self._callbacks = spec, stop, callbacks
        kept = spec.limits.output_kb * 1024
        self._stdout = Keeper(kept, lambda text: callbacks.output("stdout", text))
        self._stderr = Keeper(kept, lambda text: callbacks.output("stderr", text))
        self._started = False
        self._deadline = time.monotonic() + BOOT_S
        self._cause: Cause | None = None
        self._report: dict[str, Any] | None = None

    def hold(self, link: Link, **extra: Any) -> Heard:
        """Send the job (with `extra` fields) and listen until the supervisor's last word, its silence or its end.

        Raises:
            LinkError: the job could not be handed over.
            FrameError: what arrives is not this protocol.
        """
        if self._stop.is_set():
            self._cause = "cancelled"
        else:
            link.send(pack(JOB, encode_job(self._spec, **extra)))
        inbox = Unpacker()
        while self._report is None and (self._started or not self._cause):
            self._look(link)
            if self._cause and time.monotonic() > self._deadline:
                break
            data = link.receive()
            if data is None:
                break
            for kind, payload in inbox.feed(data):
                self._hear(kind, payload)
        return Heard(Ending(started=self._started, cause=self._cause, report=self._report), self._stdout, self._stderr)

    def _look(self, link: Link) -> None:
        """Let the callbacks tick; end the run if it is stopped or out of time."""
        self._callbacks.tick()
        if self._cause:
            return
        if self._stop.is_set():
            self._cause = "cancelled"
        elif time.monotonic() > self._deadline:
            if not self._started:
                raise LinkError(f"The sandbox did not start the program within {BOOT_S:.0f} s.")
            self._cause = "timeout"
        if self._cause:
            self._deadline = time.monotonic() + GRACE_S
            link.send(pack(KILL))

    def _hear(self, kind: bytes, payload: bytes) -> None:
        if kind == STDOUT:
            self._stdout.feed(payload)
        elif kind == STDERR:
            self._stderr.feed(payload)
        elif kind == PROGRESS:
            progress = json.loads(payload)
            self._callbacks.progress(progress["progress"], _storable(progress["note"]))
        elif kind == STARTED:
            self._started = True
            self._deadline = time.monotonic() + self._spec.limits.wall_s
        elif kind == END:
            self._report = json.loads(payload)


def rejected(sentence: str, sandbox: str) -> SandboxResult:
    """The result of a spec that no sandbox would run."""
    return SandboxResult(verdict=Verdict.REJECTED, sandbox=sandbox, error=sentence)


def failed(sentence: str, sandbox: str) -> SandboxResult:
    """The result of a run that our own side spoiled."""
    return SandboxResult(verdict=Verdict.INFRA_ERROR, sandbox=sandbox, error=sentence)


def _storable(text: str | None) -> str | None:
    """Without what a database refuses: NULs and halves of surrogate pairs."""
    return text and text.replace("\0", "\ufffd").encode(errors="replace").decode()
