"""What a hostile program of the battery is, and what must come of it."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from workers.sandbox import Limits, SandboxResult, SandboxSpec
from workers.sandbox.profile import Profile

#: Exactly this text, or all of it matches.
Text = str | re.Pattern[str]

#: Of most programs: those that ask for other memory, pids or disk get a container that is started for them.
LIMITS = {"wall_s": 60, "cpu_s": 30, "memory_mb": 128, "pids": 32, "disk_mb": 64}

#: Next to every program as attempt.py.
ATTEMPT = b'''
import errno

def attempt(name, call):
    """Say how a call went: DONE, or the name of its error."""
    try:
        call()
        print(name, "DONE", flush=True)
    except OSError as exc:
        print(name, errno.errorcode.get(exc.errno, type(exc).__name__), flush=True)
    except Exception as exc:
        print(name, type(exc).__name__, flush=True)

def until_refused(call, most=100_000):
    """How often a call works, and the name of the error that ends it."""
    for count in range(most):
        try:
            call(count)
        except OSError as exc:
            return f"{count} {errno.errorcode[exc.errno]}"
    return f"{most} and no end"
'''


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Everything a result says that does not depend on the time."""

    verdict: str = "ok"
    exit_code: int | None = None
    signal: int | None = None
    stdout: Text = ""
    stderr: Text = ""
    limits_hit: tuple[str, ...] = ()
    #: By name, in any order: their sizes or contents; None for a size that depends on the moment.
    artifacts: Mapping[str, int | bytes | None] = field(default_factory=dict)
    left: tuple[str, ...] = ()
    truncated: bool = False
    lossy: bool = False
    #: Which of limits_hit depend on the moment.
    perhaps: tuple[str, ...] = ()
    progress: tuple[tuple[int, str | None], ...] = ()

    def __post_init__(self) -> None:
        if self.verdict == "ok":
            object.__setattr__(self, "exit_code", 0)

    def differences(self, result: SandboxResult, progress: list[tuple[int, str | None]]) -> list[str]:
        """What is not as it must be, a line each."""
        found = {
            "verdict": str(result.verdict),
            "exit_code": result.exit_code,
            "signal": result.signal,
            "stdout": _matched(result.stdout, self.stdout),
            "stderr": _matched(result.stderr, self.stderr),
            "limits_hit": tuple(name for name in result.limits_hit if name not in self.perhaps),
            "artifacts": {artifact.name: artifact.size for artifact in result.artifacts},
            "left": result.artifacts_left,
            "truncated": result.truncated,
            "lossy": result.lossy,
            "progress": tuple(progress),
        }
        wanted = {**vars(self), "artifacts": self._sizes(found["artifacts"])}
        for artifact in result.artifacts:
            content = self.artifacts.get(artifact.name)
            if isinstance(content, bytes) and artifact.content.read() != content:
                found["artifacts"] = f"{artifact.name} has other contents"
        return [
            f"{name}: {_shown(value)}, not {_shown(wanted[name])}"
            for name, value in found.items()
            if value != wanted[name]
        ]

    def _sizes(self, found: Any) -> dict[str, int | None]:
        return {
            name: len(of) if isinstance(of, bytes) else found.get(name) if of is None else of
            for name, of in self.artifacts.items()
        }


def _matched(text: str, wanted: Text) -> Text:
    return wanted if isinstance(wanted, re.Pattern) and wanted.fullmatch(text) else text


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) < 2000 else f"{text[:1000]} … {text[-1000:]}"


@dataclass(frozen=True, kw_only=True)
class Program:
    """A hostile program. `process` is None where it makes no sense without a container."""

    name: str
    code: str
    docker: Outcome
    process: Outcome | None
    limits: Mapping[str, float]
    options: Mapping[str, Any]

    def spec(self, name: str, canary: str) -> SandboxSpec:
        """`canary`: a file of the host, in $CANARY."""
        options = {"language": "python", "env": {"CANARY": canary}, **self.options}
        files = {"attempt.py": ATTEMPT, **options.pop("files", {})}
        limits = Limits(**{**LIMITS, **self.limits})  # type: ignore[arg-type]
        return SandboxSpec(name=name, code=textwrap.dedent(self.code), files=files, limits=limits, **options)


def program(
    name: str, code: str, docker: Outcome, *, process: Outcome | str | None = "same", **options: Any
) -> Program:
    """Limits may be among the options, which else are those of SandboxSpec."""
    limits = {key: options.pop(key) for key in vars(Limits()) if key in options}
    in_process = docker if process == "same" else process
    assert not isinstance(in_process, str)
    return Program(name=name, code=code, docker=docker, process=in_process, limits=limits, options=options)


def profile(image: str) -> Profile:
    """Of the containers that may wait for the programs."""
    return Profile(image=image, **{key: LIMITS[key] for key in ("memory_mb", "pids", "disk_mb")})


def lines(*texts: str) -> str:
    return "".join(f"{text}\n" for text in texts)
