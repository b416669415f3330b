"""Runs a Python script in a fork of the supervisor's interpreter, as if `python3 main.py` had started it.

That saves the start of an interpreter, and what `preload` has imported. The fork keeps nothing of the supervisor: its
descriptors are closed, and it has learned no secret.

What a script can see of it: three frames below its own; the modules that are imported already; in /proc/self the
command line and first environment of the supervisor; that modules other than its own are not dismantled at the end;
and, where the image sets no locale, sys.flags.utf8_mode. A NUL in the source is an error, and failing to flush
standard output at the very end is none.
This file is sent into the sandbox as source: standard library only, Python 3.8 and later.
"""

from __future__ import annotations

import _signal as signal
import atexit
import builtins
import ctypes
import gc
import importlib.machinery
import io
import os
import sys
from _weakref import ref
from typing import Any, NoReturn

from workers.sandbox.lean import suppress

#: What ends a script is not for the script to replace.
_call_at_exit, _exit, _kill, _own_pid = atexit._run_exitfuncs, ctypes.PyDLL(None).exit, os.kill, os.getpid
_signal = signal.signal
#: The exit code of an interpreter that ends itself by SIGINT.
_INTERRUPTED = 130 << 8

#: Imported while a sandbox waits for its job: what scripts use most, at 3 MB together.
PRELOADED = """
    argparse base64 bisect collections contextlib copy csv dataclasses datetime decimal enum fractions functools
    glob hashlib heapq io itertools json logging math operator pathlib pickle platform pprint queue random re
    shutil signal socket statistics string subprocess tempfile textwrap threading time traceback types typing
    urllib.parse uuid weakref zlib
"""
#: Read by an interpreter, its C library or its loader at their start, so a fork would not heed them.
START_VARIABLES = ("PYTHON", "LD_", "LC_", "LANG", "TZ", "MALLOC_", "GLIBC_")


def preload() -> None:
    """Import what scripts are likely to import. What the image's Python lacks is left out."""
    for name in PRELOADED.split():
        with suppress(ImportError):
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
    main = type(sys)("__main__")
    loader = importlib.machinery.SourceFileLoader("__main__", path)
    main.__dict__.update(__annotations__={}, __builtins__=builtins, __cached__=None, __file__=path, __loader__=loader)
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
    del main, loader
    _end(code, os.path.dirname(path))


def _exit_code(code: Any) -> int:
    if code is None or isinstance(code, int):
        # As C takes a number that it has no room for.
        return (code or 0) & 0xFF if -(1 << 63) <= (code or 0) < 1 << 63 else 0xFF
    sys.stderr.write(f"{code}\n")
    return 1


def _show(exc: BaseException) -> int:
    """Have the hook print the traceback, without the frame of ours; returns the exit code, _INTERRUPTED among them."""
    exc.__traceback__ = exc.__traceback__ and exc.__traceback__.tb_next
    try:
        sys.excepthook(type(exc), exc, exc.__traceback__)
    except SystemExit as again:
        return _exit_code(again.code)
    except BaseException as again:  # noqa: BLE001
        again.__traceback__ = again.__traceback__ and again.__traceback__.tb_next
        again.__context__ = None
        sys.stderr.write("Error in sys.excepthook:\n")
        sys.__excepthook__(type(again), again, again.__traceback__)
        sys.stderr.write("\nOriginal exception was:\n")
        sys.__excepthook__(type(exc), exc, exc.__traceback__)
    return _INTERRUPTED if isinstance(exc, KeyboardInterrupt) else 1


def _end(code: int, workspace: str) -> NoReturn:
    """End this process in the order of the interpreter, but leave the modules that are not the script's own standing.

    To dismantle them takes longer than most scripts run.
    """
    if "threading" in sys.modules:
        with suppress(BaseException):
            sys.modules["threading"]._shutdown()
    _call_at_exit()
    _dismantle(workspace)
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):
            stream.flush()
    if code == _INTERRUPTED:
        _signal(signal.SIGINT, signal.SIG_DFL)
        _kill(_own_pid(), signal.SIGINT)
    # With the interpreter's lock held, so that no daemon thread runs any more; C's own buffers are flushed.
    _exit(code)
    os._exit(code)


def _dismantle(workspace: str) -> None:
    """Let go of the script's own modules: files that it left open are flushed, its finalizers run."""
    own = [
        name
        for name, module in list(sys.modules.items())
        if name == "__main__" or str(getattr(module, "__file__", None) or "").startswith(workspace)
    ]
    modules = [ref(module) for module in map(sys.modules.pop, own) if isinstance(module, type(sys))]
    # In a ring of objects a file may be closed before what would be written to it is known.
    for thing in gc.get_objects():
        if issubclass(type(thing), (io.TextIOWrapper, io.BufferedWriter, io.BufferedRandom)):
            with suppress(BaseException):
                thing.flush()
    # What nobody else knows goes at once, with its finalizers still finding all they name.
    gc.collect()
    for module in filter(None, (reference() for reference in modules)):
        for name in [name for name in vars(module) if name != "__builtins__"]:
            vars(module)[name] = None
    gc.collect()


def _open_standard_streams() -> None:
    """As `python3 -u` does: what is written shows at once."""
    for fd, name, mode, errors in (
        (0, "stdin", "r", "surrogateescape"),
        (1, "stdout", "w", "surrogateescape"),
        (2, "stderr", "w", "backslashreplace"),
    ):
        buffer: Any = open(fd, f"{mode}b", buffering=-1 if mode == "r" else 0, closefd=False)  # noqa: SIM115
        getattr(buffer, "raw", buffer).name = f"<{name}>"
        stream: Any = io.TextIOWrapper(buffer, encoding="utf-8", errors=errors, newline="\n", write_through=True)
        stream.mode = mode
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)
