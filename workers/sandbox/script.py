"""Runs a Python script in a fork of the supervisor's interpreter, as if `python3 main.py` had started it.

That saves the start of an interpreter, and what `preload` has imported. The fork keeps nothing of the supervisor: its
descriptors are closed, and it has learned no secret.
This file is sent into the sandbox as source: standard library only, Python 3.8 and later.
"""

from __future__ import annotations

import atexit
import builtins
import contextlib
import ctypes
import gc
import importlib
import io
import os
import signal
import sys
import threading
import types
from typing import Any, NoReturn

#: Imported while a sandbox waits for its job: what scripts use most, at 3 MB together.
PRELOADED = (
    *("argparse", "bisect", "collections", "copy", "csv", "dataclasses", "datetime", "decimal", "enum", "fractions"),
    *("functools", "glob", "hashlib", "heapq", "io", "itertools", "logging", "math", "operator", "pathlib", "pickle"),
    *("platform", "pprint", "queue", "random", "re", "shutil", "socket", "statistics", "string", "subprocess"),
    *("tempfile", "textwrap", "threading", "time", "traceback", "types", "typing", "urllib.parse", "uuid", "zlib"),
)
#: Read by an interpreter, its C library or its loader at their start, so a fork would not heed them.
START_VARIABLES = ("PYTHON", "LD_", "LC_", "LANG", "TZ", "MALLOC_", "GLIBC_")


def preload() -> None:
    """Import what scripts are likely to import. What the image's Python lacks is left out."""
    for name in PRELOADED:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    # What lives now will live in every fork: never look at it again, so that its pages stay shared.
    gc.collect()
    gc.freeze()


def runs_here(job: dict[str, Any]) -> bool:
    """Whether the program of the job is a script that a fork of this interpreter can run."""
    return not job["argv"] and job["main"].endswith(".py") and not any(map(_is_start_variable, job["env"]))


def _is_start_variable(name: str) -> bool:
    return name.startswith(START_VARIABLES)


def run_script(path: str, args: list[str], environ: dict[str, str]) -> NoReturn:
    """Run the script at the top of this process's stack, as its main module, and end as the interpreter would."""
    os.environ.clear()
    os.environ.update(environ)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    _open_standard_streams()
    sys.argv = [path, *args]
    sys.orig_argv = [sys.executable, *sys.argv]
    sys.path.insert(0, os.path.dirname(path))
    main = types.ModuleType("__main__")
    main.__dict__.update(__file__=path, __builtins__=builtins, __cached__=None)
    sys.modules["__main__"] = main
    code = 0
    try:
        with open(path, "rb") as file:
            source = file.read()
        exec(compile(source, path, "exec", dont_inherit=True), main.__dict__)  # noqa: S102
    except SystemExit as exc:
        code = _exit_code(exc.code)
    except BaseException as exc:  # noqa: BLE001
        code = _show(exc)
    _end(code, os.path.dirname(path))


def _exit_code(code: Any) -> int:
    if code is None or isinstance(code, int):
        return (code or 0) & 0xFF
    sys.stderr.write(f"{code}\n")
    return 1


def _show(exc: BaseException) -> int:
    """Have the hook print the traceback, without the frame of ours; returns the exit code."""
    exc.__traceback__ = exc.__traceback__ and exc.__traceback__.tb_next
    try:
        sys.excepthook(type(exc), exc, exc.__traceback__)
    except SystemExit as again:
        return _exit_code(again.code)
    except BaseException:  # noqa: BLE001
        sys.__excepthook__(type(exc), exc, exc.__traceback__)
    if isinstance(exc, KeyboardInterrupt):
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    return 1


def _end(code: int, workspace: str) -> NoReturn:
    """End this process in the order of the interpreter, but leave the modules that are not the script's own standing.

    To dismantle them takes longer than most scripts run.
    """
    with contextlib.suppress(BaseException):
        threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for module in list(sys.modules.values()):
        if (getattr(module, "__file__", None) or "").startswith(workspace):
            # Files that it left open are flushed, its finalizers run.
            vars(module).clear()
    gc.collect()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    # With the interpreter's lock held, so that no daemon thread runs any more; C's own buffers are flushed.
    ctypes.PyDLL(None).exit(code)
    os._exit(code)


def _open_standard_streams() -> None:
    """As `python3 -u` does: what is written shows at once."""
    stdin = open(0, encoding="utf-8", errors="surrogateescape", closefd=False)  # noqa: SIM115
    streams = {
        "stdin": stdin,
        "stdout": _unbuffered(1, "surrogateescape"),
        "stderr": _unbuffered(2, "backslashreplace"),
    }
    for name, stream in streams.items():
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)


def _unbuffered(fd: int, errors: str) -> Any:
    raw = open(fd, "wb", buffering=0, closefd=False)  # noqa: SIM115
    return io.TextIOWrapper(raw, encoding="utf-8", errors=errors, write_through=True)
