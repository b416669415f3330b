"""Programs that do not end, or in a way that could be taken for something else."""

from __future__ import annotations

import re

from tests.integration.sandbox.battery.program import Outcome, program

_CODES = {1: 1, 124: 124, 137: 137, 143: 143, 255: 255, 256: 0, 257: 1, -1: 255}

ENDS = (
    *(
        program(
            f"exit code {given}",
            f"print('leaving'); raise SystemExit({given})",
            Outcome(verdict="nonzero_exit" if seen else "ok", exit_code=seen, stdout="leaving\n"),
        )
        for given, seen in _CODES.items()
    ),
    *(
        program(
            f"{name} to itself",
            f"import os, signal; print('leaving', flush=True); os.kill(os.getpid(), signal.{name})",
            Outcome(verdict="signaled", signal=number, stdout="leaving\n"),
        )
        for name, number in {"SIGKILL": 9, "SIGTERM": 15, "SIGSEGV": 11, "SIGXCPU": 24}.items()
    ),
    program(
        "SIGXFSZ to itself in a shell",
        "echo leaving; kill -XFSZ $$",
        Outcome(verdict="signaled", signal=25, stdout="leaving\n", limits_hit=("file_mb",)),
        language="shell",
    ),
    program(
        "SIGSTOP to itself",
        "import os, signal; print('stopping', flush=True); os.kill(os.getpid(), signal.SIGSTOP); print('going on')",
        Outcome(verdict="timeout", stdout="stopping\n", limits_hit=("wall_s",)),
        wall_s=1,
    ),
    program(
        "text that says it was killed",
        "import sys; sys.exit('Killed: out of memory, signal 9, exit code 137')",
        Outcome(verdict="nonzero_exit", exit_code=1, stderr="Killed: out of memory, signal 9, exit code 137\n"),
    ),
    program(
        "atexit that decides on the exit code",
        "import atexit, os; atexit.register(os._exit, 7); print('leaving')",
        Outcome(verdict="nonzero_exit", exit_code=7, stdout="leaving\n"),
    ),
    program(
        "atexit that raises and forks",
        """
        import atexit, os
        def late(): os.fork(); os.write(1, b"late\\n")
        atexit.register(late)
        atexit.register(lambda: 1 / 0)
        """,
        Outcome(
            stdout=re.compile(r"late\n(late\n)?"),
            stderr=re.compile(r"(?s).*ZeroDivisionError: division by zero\n"),
        ),
    ),
    program(
        "atexit that never returns",
        """
        import atexit
        def stay():
            print("staying", flush=True)
            while True: pass
        atexit.register(stay)
        """,
        Outcome(verdict="timeout", stdout="staying\n", limits_hit=("wall_s",)),
        wall_s=1,
    ),
    program(
        "an except hook that makes nothing of it",
        "import os, sys; sys.excepthook = lambda *_: os._exit(0); print('raising', flush=True); 1 / 0",
        Outcome(stdout="raising\n"),
    ),
    program(
        "an except hook that fails as well",
        """
        import sys
        def hook(*_): raise ValueError("hook")
        sys.excepthook = hook
        raise KeyError("first")
        """,
        Outcome(
            verdict="nonzero_exit", exit_code=1,
            stderr=re.compile(
                "Error in sys.excepthook:\nTraceback .*:\n  File .*main.py\", line 3, in hook\n.*\n *\\^*\n"
                "ValueError: hook\n\nOriginal exception was:\n"
                "Traceback .*:\n  File .*main.py\", line 5, in <module>\n.*\nKeyError: 'first'\n"
            ),
        ),
    ),
    program(
        "os._exit with output unwritten",
        "import os, sys; print('written'); os._exit(9)",
        Outcome(verdict="nonzero_exit", exit_code=9, stdout="written\n"),
    ),
    program(
        "another image in its process",
        "import os; print('first', flush=True); os.execv('/bin/sh', ['sh', '-c', 'echo second; exit 6'])",
        Outcome(verdict="nonzero_exit", exit_code=6, stdout="first\nsecond\n"),
    ),
    program(
        "a recursion without end",
        """
        import sys
        def down(): return down() + 1
        try: down()
        except RecursionError: print("caught", flush=True)
        sys.setrecursionlimit(10 ** 9)
        import ctypes
        ctypes.string_at(0)
        """,
        Outcome(verdict="signaled", signal=11, stdout="caught\n"),
    ),
    program(
        "a loop that ignores every signal",
        """
        import signal
        for number in set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP}: signal.signal(number, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_BLOCK, set(signal.Signals))
        print("ignoring", flush=True)
        while True: pass
        """,
        Outcome(verdict="timeout", stdout="ignoring\n", limits_hit=("wall_s",)),
        wall_s=1,
    ),
    program(
        "a sleep for ever",
        "import time; print('sleeping', flush=True); time.sleep(1e9)",
        Outcome(verdict="timeout", stdout="sleeping\n", limits_hit=("wall_s",)),
        wall_s=0.5,
    ),
    program(
        "CPU burnt by children",
        """
        import os
        print("burning", flush=True)
        for _ in range(2): os.fork()
        while True: pass
        """,
        Outcome(verdict="cpu_limit", stdout="burning\n", limits_hit=("cpu_s",)),
        cpu_s=1,
    ),
    program(
        "CPU burnt by threads",
        """
        import hashlib, threading
        def burn():
            while True: hashlib.sha256(bytes(1 << 20)).digest()
        print("burning", flush=True)
        for _ in range(4): threading.Thread(target=burn).start()
        """,
        Outcome(verdict="cpu_limit", stdout="burning\n", limits_hit=("cpu_s",)),
        cpu_s=1,
    ),
)  # fmt: skip
