"""The worker's side of a run: sends the job, hears the frames, watches the clock and the stop flag."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from workers.sandbox.artifacts import Basket
from workers.sandbox.frames import (
    END,
    JOB,
    KILL,
    MAX_ANSWER,
    PROGRESS,
    STARTED,
    STDERR,
    STDOUT,
    FrameError,
    Unpacker,
    pack,
)
from workers.sandbox.job import encode_job
from workers.sandbox.output import Keeper, storable
from workers.sandbox.spec import Callbacks, SandboxResult, SandboxSpec, Stop, Verdict
from workers.sandbox.verdict import Cause, Ending, Judgement, limits_hit

#: Seconds between looks at the stop flag.
LOOK_S = 0.1
#: Seconds a supervisor, beside whose program it gets little CPU, has to report after it was told to kill that; then the
#: sandbox is destroyed, and with it the artifacts. Nobody waits for those of a cancelled run.
GRACE_S = {"timeout": 3.0, "cancelled": 0.3}
#: Seconds from the start of a sandbox to the start of its program.
BOOT_S = 30.0
#: Seconds to hand over the job.
SEND_S = 30.0
#: Seconds a supervisor gets to hand over the artifacts.
COLLECT_S = 30.0


class LinkError(Exception):
    """The connection to a supervisor broke. The text is a sentence for people."""


class Link:
    """A byte stream to a supervisor over a socket; `decode` takes a transport's own framing off what arrives."""

    def __init__(self, sock: socket.socket, decode: Callable[[bytes], bytes] = bytes) -> None:
        self._sock = sock
        self._decode = decode

    def send(self, data: bytes, is_off: Callable[[], bool] = lambda: False) -> bool:
        """Hand over `data`, unless `is_off` says meanwhile that this is no longer wanted: then part of it may be sent.

        Returns:
            Whether all is handed over.

        Raises:
            LinkError: the other side is gone, or does not take it within SEND_S.
        """
        give_up = time.monotonic() + SEND_S
        self._sock.settimeout(LOOK_S)
        rest = memoryview(data)
        while rest:
            if is_off():
                return False
            if time.monotonic() > give_up:
                raise LinkError(f"The sandbox does not take its job within {SEND_S:.0f} s.")
            try:
                rest = rest[self._sock.send(rest) :]
            except TimeoutError:
                continue
            except OSError as exc:
                raise LinkError(f"The sandbox does not take its job: {exc}.") from exc
        return True

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
    basket: Basket
    start_ms: int | None

    def result(self, judgement: Judgement, **sandbox: Any) -> SandboxResult:
        """What to tell of the run; `sandbox` are the fields that say where it ran."""
        report = self.ending.report or {}
        truncated = self.stdout.truncated or self.stderr.truncated
        return SandboxResult(
            verdict=judgement.verdict,
            exit_code=judgement.exit_code,
            signal=judgement.signal,
            stdout=self.stdout.close(),
            stderr=self.stderr.close(),
            truncated=truncated,
            lossy=self.stdout.lossy or self.stderr.lossy,
            artifacts=self.basket.artifacts(),
            forget=self.basket.close,
            artifacts_left=self.basket.left() if self.ending.started and self.ending.cause != "cancelled" else (),
            limits_hit=limits_hit(judgement.verdict, report, truncated=truncated),
            start_ms=self.start_ms,
            wall_ms=report.get("wall_ms"),
            cpu_ms=report.get("cpu_ms"),
            peak_memory_bytes=report.get("peak_memory_bytes"),
            error=judgement.error,
            **sandbox,
        )


class Conversation:
    """One run, from the request on; `hold()` it over a Link, once."""

    def __init__(self, spec: SandboxSpec, stop: Stop, callbacks: Callbacks) -> None:
        self._spec, self._stop, self._callbacks = spec, stop, callbacks
        kept = spec.limits.output_kb * 1024
        self._stdout = Keeper(kept, lambda text: callbacks.output("stdout", text))
        self._stderr = Keeper(kept, lambda text: callbacks.output("stderr", text))
        self._basket = Basket()
        self._asked_at = time.monotonic()
        self._start_ms: int | None = None
        self._deadline = 0.0
        self._cause: Cause | None = None
        self._report: dict[str, Any] | None = None

    def hold(self, link: Link, **extra: Any) -> Heard:
        """Send the job (with `extra` fields) and listen until the supervisor's last word, its silence or its end.

        A cancelled run ends with the end frame, since nobody waits for its artifacts; before its start, at once. The
        supervisor may then have half a job, and is for the caller to end.

        Raises:
            LinkError: the job could not be handed over.
            FrameError: what arrives is not this protocol.
        """
        self._deadline = time.monotonic() + BOOT_S
        if not link.send(pack(JOB, encode_job(self._spec, **extra)), self._stop.is_set):
            self._cause = "cancelled"
        try:
            self._listen(link)
        except BaseException:
            self._basket.close()
            raise
        ending = Ending(started=self._started, cause=self._cause, report=self._report)
        return Heard(ending, self._stdout, self._stderr, self._basket, self._start_ms)

    def _listen(self, link: Link) -> None:
        inbox = Unpacker(MAX_ANSWER)
        while not self._is_over():
            self._look(link)
            if (self._cause or self._report) and time.monotonic() > self._deadline:
                return
            data = link.receive()
            if data is None:
                return
            for kind, payload in inbox.feed(data):
                self._hear(kind, payload)

    @property
    def _started(self) -> bool:
        return self._start_ms is not None

    def _is_over(self) -> bool:
        if self._cause == "cancelled" and (self._report or not self._started):
            return True
        return self._basket.full

    def _look(self, link: Link) -> None:
        """Let the callbacks tick; end the run if it is stopped or out of time."""
        self._callbacks.tick()
        if self._cause or self._report:
            return
        if self._stop.is_set():
            self._cause = "cancelled"
        elif time.monotonic() > self._deadline:
            if not self._started:
                raise LinkError(f"The sandbox did not start the program within {BOOT_S:.0f} s.")
            self._cause = "timeout"
        if self._cause:
            self._deadline = time.monotonic() + GRACE_S[self._cause]
            # If it cannot be sent, the end of the stream or the deadline ends the run.
            with suppress(LinkError):
                link.send(pack(KILL), lambda: time.monotonic() > self._deadline)

    def _hear(self, kind: bytes, payload: bytes) -> None:
        if kind == STDOUT:
            self._stdout.feed(payload)
        elif kind == STDERR:
            self._stderr.feed(payload)
        elif kind == PROGRESS:
            progress = _decoded(payload)
            note = progress.get("note")
            self._callbacks.progress(progress["progress"], note and storable(note))
        elif kind == STARTED:
            self._start_ms = round((time.monotonic() - self._asked_at) * 1000)
            self._deadline = time.monotonic() + self._spec.limits.wall_s
        elif kind == END:
            self._report = _decoded(payload)
            self._deadline = time.monotonic() + COLLECT_S
        else:
            self._basket.hear(kind, payload)


def _decoded(payload: bytes) -> dict[str, Any]:
    try:
        value = json.loads(payload)
    except (ValueError, RecursionError) as exc:
        raise FrameError("a payload is not JSON") from exc
    if not isinstance(value, dict):
        raise FrameError("a payload is not an object")
    return value


def rejected(sentence: str, sandbox: str) -> SandboxResult:
    """The result of a spec that no sandbox would run."""
    return SandboxResult(verdict=Verdict.REJECTED, sandbox=sandbox, error=sentence)


def failed(sentence: str, sandbox: str) -> SandboxResult:
    """The result of a run that our own side spoiled."""
    return SandboxResult(verdict=Verdict.INFRA_ERROR, sandbox=sandbox, error=sentence)
