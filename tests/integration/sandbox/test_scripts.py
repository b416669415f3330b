"""A script runs in a fork of a waiting interpreter as it does when `python3 -u main.py` is executed."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import docker
import pytest

from app.settings import Settings
from tests.integration.sandbox.sandboxes import in_docker, run_in, until
from workers.sandbox import Sandbox, SandboxResult
from workers.sandbox.docker import DockerSandbox
from workers.sandbox.profile import Profile

SCRIPTS = {
    **{
        f"sys.exit({code})": f"import sys; print('leaving'); sys.exit({code})"
        for code in ("", "0", "3", "'a reason'", "True", "300", "-1", "1 << 70", "(1, 2)")
    },
    "a syntax error": "x = 1\nif x\n    pass",
    "an indentation error": "def f():\npass",
    "a recursion without end": "def down(): return down()\ndown()",
    "an encoding of its own": "# -*- coding: latin-1 -*-\nprint('a')",
    "an exception": """
        def divide(n): return 1 / n
        print("before", flush=True)
        divide(0)
    """,
    "exceptions in a chain": """
        def f(): raise KeyError("first")
        try: f()
        except KeyError as exc:
            try: raise ValueError("second")
            except ValueError as again: raise TypeError("third") from exc
    """,
    "a group of exceptions": """
        def f(n): raise ValueError(n)
        found = []
        for n in range(3):
            try: f(n)
            except ValueError as exc: found.append(exc)
        raise ExceptionGroup("all", found)
    """,
    "an exception without a hook": """
        import sys
        def hook(kind, exc, traceback): print("hook", kind.__name__, exc, traceback.tb_lineno); raise OSError("hook")
        sys.excepthook = hook
        raise KeyError("x")
    """,
    "an interrupt": """
        import atexit, os, signal, time
        atexit.register(print, "at exit")
        print("before", flush=True)
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(5)
    """,
    "the order of the end": """
        import atexit, threading, time
        atexit.register(print, "first registered")
        atexit.register(print, "second registered")
        @atexit.register
        def failing(): raise ValueError("at exit")
        def late(): time.sleep(0.3); print("thread")
        threading.Thread(target=late).start()
        threading.Thread(target=lambda: (time.sleep(60), print("daemon")), daemon=True).start()
        class Finalized:
            def __del__(self): print("finalized", GLOBAL)
        kept, GLOBAL = Finalized(), "with its globals"
        print("end of main")
    """,
    "an exception in a thread": """
        import threading
        def fail(): raise ValueError("thread")
        thread = threading.Thread(target=fail, name="T"); thread.start(); thread.join()
    """,
    "what nobody closed": """
        import logging, sys
        class Keeper: pass
        keeper = Keeper(); keeper.itself = keeper
        keeper.file = open("out/kept", "w"); keeper.file.write("kept")
        logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(levelname)s %(name)s %(message)s")
        logging.info("hello")
        file = open("out/late", "w")
        file.write("late")
        print(repr(open("out/late").read()))
    """,
    "what it is": """
        '''Its documentation.'''
        import sys, threading, os, signal, gc
        x: int = 1
        print(sorted(globals()), __name__, __file__, __doc__, __package__, __spec__, type(__loader__).__name__)
        print(__annotations__, __loader__.get_source("__main__") is not None, sys.argv, sys.path)
        # An image whose own locale is no UTF-8 has it set.
        print(str(sys.flags).replace("utf8_mode=1", "utf8_mode=0"))
        print(threading.main_thread() is threading.current_thread(), threading.active_count(), os.getcwd())
        print({number.name: str(signal.getsignal(number)) for number in signal.Signals}, os.getpid() == os.getsid(0))
        print(sorted(os.environ.items()), sys.executable, sys.getrecursionlimit(), sys.getswitchinterval())
        for stream in (sys.stdin, sys.stdout, sys.stderr):
            print(stream, type(stream.buffer), stream.errors, stream.newlines, stream.line_buffering)
            print(stream.write_through, stream.fileno(), stream is getattr(sys, f"__{stream.name[1:-1]}__"))
        print(signal.pthread_sigmask(signal.SIG_BLOCK, []), gc.isenabled(), gc.get_threshold(), sys.gettrace())
        print(__builtins__, dir(), vars() is globals(), sys.modules["__main__"].__dict__ is globals())
    """,
    "its own classes pickled": """
        import dataclasses, enum, pickle
        @dataclasses.dataclass
        class Point: x: int = 1
        class Colour(enum.Enum): RED = 1
        print(pickle.loads(pickle.dumps([Point(2), Colour.RED])), Point.__module__)
    """,
    "processes by fork and by spawn": """
        import multiprocessing
        def double(x): return 2 * x
        if __name__ == "__main__":
            for method in ("fork", "spawn", "forkserver"):
                with multiprocessing.get_context(method).Pool(2) as pool: print(method, pool.map(double, range(4)))
    """,
    "its children's environment": """
        import os, subprocess, sys
        os.environ["MINE"] = "1"; del os.environ["LANG"]
        print(subprocess.run(["env"], capture_output=True, text=True).stdout.split("_=")[0].split())
        subprocess.run([sys.executable, "-c", "import os; print(os.environ['MINE'])"])
        print(os.popen("echo $GIVEN").read())
    """,
    "its input to the end": r"""
        import sys
        print(repr(input()), repr(sys.stdin.readline()), sys.stdin.buffer.read(3), repr(input("? ")))
        input()
    """,
    "streams side by side": r"""
        import os, sys
        print("a", end=""); print("b", file=sys.stderr); sys.stdout.buffer.write(b"c"); os.write(1, b"d\n")
        sys.stdout.write("é😀 \udcff\n"); print("\ud800\udcff", file=sys.stderr); os.system("echo e")
        print("\ud800")
    """,
    "a stream of its own": """
        import io, sys
        sys.stdout = io.TextIOWrapper(open(1, "wb", closefd=False), encoding="utf-16-le")
        print("late")
    """,
    "warnings": """
        import warnings
        def old(): warnings.warn("old", DeprecationWarning, stacklevel=2)
        for _ in range(3): old(); warnings.warn("here"); warnings.warn("res", ResourceWarning)
        "\\d" if 1 is 1 else 2
        import imp
    """,
    "an import of its own": """
        import sibling, pack.module
        print(sibling.VALUE, sibling.__file__, pack.module.__name__)
        import broken
    """,
    "an import of what is not there": "import numpy_is_not_here",
    "a broken pipe": """
        import os, signal
        r, w = os.pipe(); os.close(r)
        try: os.write(w, b"x")
        except BrokenPipeError: print("broken")
        os.system("yes | head -1; echo $?")
    """,
    "coroutines": """
        import asyncio
        async def main():
            task = asyncio.get_running_loop().create_task(never())
            await asyncio.sleep(0.01); print("slept"); 1 / 0
        async def never():
            try: await asyncio.sleep(60)
            except asyncio.CancelledError: print("cancelled")
        asyncio.run(main())
    """,
    "a pool of threads at the end": """
        import concurrent.futures, time
        pool = concurrent.futures.ThreadPoolExecutor(2)
        for n in range(2): pool.submit(lambda n: (time.sleep(0.1 + n / 10), print(n)), n)
    """,
    "os._exit": "import atexit, os; atexit.register(print, 'no'); print('yes'); os._exit(300 & 0xFF)",
    "a variable of the interpreter": "import sys; print(hash('a'), sys.flags.optimize)",
    "its own source": "import inspect\ndef f(): return 1\nprint(inspect.getsource(f), f.__code__.co_filename)",
}  # fmt: skip
FILES = {"sibling.py": b"VALUE = 1", "pack/module.py": b"", "broken.py": b"def f(): return 1 / 0\nf()\n"}
ENV = {"a variable of the interpreter": {"PYTHONHASHSEED": "1", "PYTHONOPTIMIZE": "1"}}


@pytest.fixture(scope="module")
def sandbox(client: docker.DockerClient) -> Iterator[DockerSandbox]:
    sandbox = in_docker(client, warm={Profile(image=Settings().sandbox_image): 3})
    sandbox.open()
    until(lambda: sandbox.waiting() == 3)
    yield sandbox
    sandbox.close()


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_fork_is_like_an_execution(sandbox: DockerSandbox, name: str) -> None:
    code = textwrap.dedent(SCRIPTS[name])
    env = {"GIVEN": "ü", **ENV.get(name, {})}
    options: dict[str, Any] = {"env": env, "args": ("a", "b"), "stdin": "one\r\ntwo\nthree\nfour"}
    until(sandbox.waiting)
    forked, files_of_forked = _end(sandbox, code, files=FILES, **options)
    assert forked.warm
    main = {**FILES, "main.py": code.encode()}
    argv = ("python3", "-u", "/workspace/main.py")
    executed, files_of_executed = _end(sandbox, argv=argv, files=main, **options)
    for field in ("verdict", "exit_code", "signal", "stderr", "stdout", "lossy"):
        assert _plain(getattr(forked, field)) == _plain(getattr(executed, field)), field
    assert files_of_forked == files_of_executed
    assert forked.stdout or forked.stderr


def _plain(value: object) -> str:
    """Without addresses in memory, and how deep a recursion went."""
    return re.sub(r"0x[0-9a-f]{6,}|repeated \d+ more", "…", str(value))


def _end(sandbox: Sandbox, *args: Any, **options: Any) -> tuple[SandboxResult, dict[str, bytes]]:
    """The result of a run and the contents of its artifacts."""
    with closing(run_in(sandbox, *args, **options)) as result:
        return result, {artifact.name: artifact.content.read() for artifact in result.artifacts}
