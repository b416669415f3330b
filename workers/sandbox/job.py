"""A spec as the supervisor gets it, and why some specs never get that far."""

from __future__ import annotations

import marshal
import math
import re
from typing import Any

from app.programs import MAX_WORDS_BYTES
from workers.sandbox.artifacts import BOUNDS
from workers.sandbox.frames import MAX_PAYLOAD
from workers.sandbox.output import HARD_CAP_FACTOR
from workers.sandbox.spec import SandboxSpec

#: Less than this and not even an interpreter starts.
LEAST = {"memory_mb": 16, "open_files": 16}

#: Bytes of code, stdin and files.
MAX_INPUT = MAX_PAYLOAD // 2

_MAIN = {"python": "main.py", "shell": "main.sh", "javascript": "main.js"}
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,199}")


def encode_job(spec: SandboxSpec, **extra: Any) -> bytes:
    """The payload of a job frame: a dictionary as marshal writes it. Only ever sent towards the sandbox."""
    main = _MAIN[spec.language]
    files = dict(spec.files)
    if spec.code is not None:
        files[main] = spec.code.encode()
    job = {
        "main": main,
        "argv": list(spec.argv or ()),
        "args": list(spec.args),
        "env": dict(spec.env),
        "stdin": spec.stdin.encode(),
        "files": files,
        "limits": dict(vars(spec.limits)),
        "artifacts": dict(BOUNDS),
        "output_cap": spec.limits.output_kb * 1024 * HARD_CAP_FACTOR,
        **extra,
    }
    # Quicker to import than json, and takes bytes; a format that every Python 3 reads.
    return marshal.dumps(job, 2)


def problem(spec: SandboxSpec) -> str | None:
    """Why no sandbox would run this spec, as one sentence, or None if it is fine."""
    if not _NAME.fullmatch(spec.name):
        return "The name of a run consists of letters, digits, `_`, `.` and `-`."
    if (spec.code is None) == (spec.argv is None) or spec.argv == ():
        return "Give exactly one of code and argv."
    words = (*(spec.argv or ()), *spec.args, *spec.env, *spec.env.values())
    if any("\0" in text for text in (*words, *spec.files)):
        return "Arguments, environment and file names must not contain NUL."
    if not all(map(_is_text, (*words, *spec.files, spec.code or "", spec.stdin))):
        return "Code, stdin, arguments, environment and file names must be text, without half surrogate pairs."
    if sum(len(text.encode()) + 1 for text in words) > MAX_WORDS_BYTES:
        return f"Arguments and environment together must stay below {MAX_WORDS_BYTES >> 10} KiB."
    if any(not name or "=" in name for name in spec.env):
        return "Names of environment variables must not be empty or contain `=`."
    for name in spec.files:
        if not all(part not in ("", ".", "..") for part in name.split("/")):
            return f"The file name {name!r} must be relative, without `..`."
    for limit, value in vars(spec.limits).items():
        if not value > 0 or not math.isfinite(value):
            return f"limits.{limit} must be a number above 0."
    for limit, least in LEAST.items():
        if getattr(spec.limits, limit) < least:
            return f"limits.{limit} must be at least {least}."
    given = (spec.code or "").encode(), spec.stdin.encode(), *spec.files.values()
    if sum(map(len, given)) > MAX_INPUT:
        return f"Code, stdin and files together must stay below {MAX_INPUT >> 20} MiB."
    return None


def _is_text(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
