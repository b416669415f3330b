"""What a sandbox is asked to run and what it answers: plain frozen values, no I/O."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import IO, Any, Literal, Protocol


class Verdict(StrEnum):
    """How a run ended. Decided by engine, kernel and supervisor, never by bytes the program can write.

    Precedence when several apply: cancelled > timeout > cpu_limit > output_limit > oom > signaled > nonzero_exit > ok.
    """

    OK = "ok"
    NONZERO_EXIT = "nonzero_exit"
    SIGNALED = "signaled"
    TIMEOUT = "timeout"
    CPU_LIMIT = "cpu_limit"
    OOM = "oom"
    OUTPUT_LIMIT = "output_limit"
    CANCELLED = "cancelled"
    REJECTED = "rejected"
    INFRA_ERROR = "infra_error"


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Bounds of one run."""

    #: Wall-clock seconds from the start of the program.
    wall_s: float = 60
    #: CPU seconds over all processes of the program.
    cpu_s: float = 60
    #: Memory and swap together, MiB.
    memory_mb: int = 256
    #: Processes and threads at once.
    pids: int = 64
    #: Bytes of files in /workspace, MiB; /tmp and /dev/shm get a quarter of that each.
    disk_mb: int = 64
    #: Bytes of one file, MiB.
    file_mb: int = 1024
    #: Open descriptors of one process.
    open_files: int = 1024
    #: Bytes of each output stream that are kept, KiB: the first half and the last half.
    output_kb: int = 256


@dataclass(frozen=True, kw_only=True)
class SandboxSpec:
    """One program to run."""

    #: Unique and stable per attempt, for example "<task id>-<attempt>".
    name: str
    language: Literal["python", "shell", "javascript"]
    #: Exactly one of code and argv is given.
    code: str | None = None
    argv: tuple[str, ...] | None = None
    stdin: str = ""
    args: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    #: Files put under /workspace before the start; names are relative, without `..`.
    files: Mapping[str, bytes] = field(default_factory=dict)
    limits: Limits = Limits()
    #: Container image; None: the sandbox's own for the language.
    image: str | None = None
    #: OCI runtime of the engine, for example "runsc"; None: the sandbox's own choice.
    runtime: str | None = None
    #: The engine's network that the program may use; None: no network.
    network: str | None = None


@dataclass(frozen=True, kw_only=True)
class Artifact:
    """A regular file that the program left under /workspace/out."""

    #: Relative to /workspace/out, with `/` between directories.
    name: str
    #: Bytes.
    size: int
    #: From position 0, until the result is closed.
    content: IO[bytes]


@dataclass(frozen=True, kw_only=True)
class SandboxResult:
    """How it went. Time-outs, OOM and signals are results, not exceptions."""

    verdict: Verdict
    exit_code: int | None = None
    signal: int | None = None
    stdout: str = ""
    stderr: str = ""
    #: Output beyond the limit was dropped (head and tail are kept).
    truncated: bool = False
    #: Bytes that are not UTF-8, or NULs, were replaced.
    lossy: bool = False
    #: From the request to the start of the program.
    start_ms: int | None = None
    wall_ms: int | None = None
    cpu_ms: int | None = None
    peak_memory_bytes: int | None = None
    #: Their contents can be read until `close`.
    artifacts: tuple[Artifact, ...] = ()
    #: Closes the file that the artifacts share.
    forget: Callable[[], None] = field(default=lambda: None, repr=False, compare=False)
    #: What under /workspace/out was not taken, one sentence each (the first few).
    artifacts_left: tuple[str, ...] = ()
    #: Limits that the program ran into, by their names in Limits: those that end it and those it only hears of.
    limits_hit: tuple[str, ...] = ()
    #: Which sandbox ran it: "docker", "process".
    sandbox: str = ""
    #: The OCI runtime, where it is not the engine's default.
    runtime: str | None = None
    #: Whether it ran in a sandbox that had been waiting for it.
    warm: bool = False
    #: What the sandbox could not enforce here, one phrase each.
    unenforced: tuple[str, ...] = ()
    #: One sentence for people when the verdict is not ok.
    error: str | None = None

    def close(self) -> None:
        """Forget the contents of the artifacts."""
        self.forget()

    def as_json(self) -> dict[str, Any]:
        """The result of a code task, as the HTTP contract has it."""
        return {
            "verdict": str(self.verdict),
            "exit_code": self.exit_code,
            "signal": self.signal,
            "stdout": self.stdout,
            "stderr": self.stderr,
            "truncated": self.truncated,
            "lossy": self.lossy,
            "artifacts": [{"name": artifact.name, "size": artifact.size} for artifact in self.artifacts],
            "usage": {"wall_ms": self.wall_ms, "cpu_ms": self.cpu_ms, "peak_memory_bytes": self.peak_memory_bytes},
            "sandbox": self.sandbox,
            "warm": self.warm,
            **{name: value for name, value in self._extras().items() if value},
        }

    def _extras(self) -> dict[str, Any]:
        """Said only where there is something to say."""
        return {
            "runtime": self.runtime,
            "limits_hit": list(self.limits_hit),
            "artifacts_left": list(self.artifacts_left),
            "unenforced": list(self.unenforced),
        }


class Stop(Protocol):
    """Tells a running sandbox to kill its program: a cancel, a deadline, a lost lease or a drain."""

    def is_set(self) -> bool: ...


@dataclass(frozen=True, kw_only=True)
class Callbacks:
    """What the worker wants to hear while the program runs. Each is called from the thread that called run()."""

    #: The container or process exists, before any code is sent: its id.
    started: Callable[[str], None] = lambda _id: None
    #: (stream, text) with stream "stdout" or "stderr"; called as output arrives, in order per stream.
    output: Callable[[str, str], None] = lambda _stream, _text: None
    #: (percent 0-100, note) from lines written to $CLAWQ_PROGRESS_FD.
    progress: Callable[[int, str | None], None] = lambda _percent, _note: None
    #: Called several times a second whatever the program does.
    tick: Callable[[], None] = lambda: None


class Sandbox(Protocol):
    """One way to run untrusted code."""

    name: str

    def open(self) -> None:
        """Begin to prepare for runs; what it starts is labelled as this process's, which others must know to live."""
        ...

    def run(self, spec: SandboxSpec, *, stop: Stop, callbacks: Callbacks) -> SandboxResult:
        """Run one program to its end, or until `stop` is set; then every process of it is dead.

        Never raises for anything the program did; a fault of the engine is the verdict `infra_error`.
        The caller closes the result.
        """
        ...

    def reap(self, is_orphan: Callable[[str, str], bool]) -> list[str]:
        """Remove what other processes left here, where `is_orphan(instance, id)` says so.

        Returns:
            The ids of what was removed.

        Raises:
            OSError: the engine does not answer.
        """
        ...

    def waiting(self) -> int:
        """Sandboxes that are started and wait for a program."""
        ...

    def close(self) -> None:
        """Remove whatever is here and runs no program."""
        ...
