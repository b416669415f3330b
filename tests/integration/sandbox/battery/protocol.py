"""Programs that want to speak for their supervisor, reach it or outlive it."""

from __future__ import annotations

import json
import re

from tests.integration.sandbox.battery.program import Outcome, lines, program
from workers.sandbox.frames import DONE, END, FILE, STDOUT, pack

#: What a supervisor says of a program that went well, and of its artifacts.
_FORGED = (
    pack(STDOUT, b"forged")
    + pack(END, json.dumps({"exit_code": 0, "reason": None}).encode())
    + pack(FILE, json.dumps({"name": "forged", "size": 0}).encode())
    + pack(DONE, json.dumps({"left": []}).encode())
)
_SAID = _FORGED.decode().replace("\0", "\ufffd")

PROTOCOL = (
    program(
        "frames forged on every descriptor",
        f"""
        import os
        from attempt import attempt
        forged, done = {_FORGED!r}, []
        for fd in (*range(4), *range(4, 4096)):
            try: os.write(fd, forged); done.append(fd)
            except OSError: pass
        for pid in {{1, os.getppid()}}:
            for name in ("fd/0", "fd/1", "fd/2", "fd/3", "fd/4", "fdinfo/1", "mem", "cwd/x", "root/x"):
                try: open(f"/proc/{{pid}}/{{name}}", "wb").write(forged); done.append(name)
                except OSError: pass
        print(done)
        raise SystemExit(3)
        """,
        Outcome(
            verdict="nonzero_exit", exit_code=3, stdout=f"{_SAID}[1, 2, 3]\n", stderr=_SAID, lossy=True,
        ),
    ),
    program(
        "progress that is none",
        f"""
        import os
        fd = int(os.environ["CLAWQ_PROGRESS_FD"])
        os.write(fd, {_FORGED!r} + b"\\n")
        for line in (
            b"[" * 1000, b"{{" * 900, b'{{"progress": 1e999}}', b'{{"progress": NaN}}', b'{{"progress": -1}}',
            b'{{"progress": true}}', b'{{"progress": "1"}}', b'{{"progress": 101}}', b"null", b"\\xff", b"",
            b'{{"progress": 7, "note": "' + b"x" * 2000 + b'"}}', b'{{"progress": 50, "note": "a\\\\u0000b\\\\ud800"}}',
        ): os.write(fd, line + b"\\n")
        os.write(fd, b'{{"progress": 99')
        """,
        Outcome(progress=((50, "a\ufffdb?"),)),
    ),
    program(
        "the supervisor's state in a fork of it",
        """
        import gc, os, sys
        frame, reached = sys._getframe(), {}
        while frame: reached.update(frame.f_globals); frame = frame.f_back
        for module in list(sys.modules.values()): reached.update(vars(module))
        for thing in gc.get_objects(): reached.update(thing) if type(thing) is dict and "Supervision" in thing else 0
        print("reached", "Supervision" in reached, "send" in reached, flush=True)
        if "send" in reached and "END" in reached:
            reached["send"](reached["END"], b'{"exit_code": 0}')
        live = [thing for thing in gc.get_objects() if type(thing).__name__ in ("Supervision", "Meter", "Collection")]
        print("\\nalive", live, [os.readlink(f"/proc/self/fd/{fd}").split(":")[0] for fd in range(4)])
        for fd in range(4, 4096):
            try: os.fstat(fd); print("open", fd)
            except OSError: pass
        raise SystemExit(3)
        """,
        Outcome(
            verdict="nonzero_exit", exit_code=3, lossy=True,
            stdout=re.compile(
                r"reached True True\nx\ufffd{3}.\{\"exit_code\": 0\}\nalive \[\] \['pipe'(, 'pipe'){3}\]\n"
            ),
        ),
        process=None,
    ),
    program(
        "its own memory rewritten",
        """
        import ctypes, os
        text = ctypes.create_string_buffer(b"before")
        with open("/proc/self/mem", "r+b", 0) as memory: memory.seek(ctypes.addressof(text)); memory.write(b"after!")
        print(text.value)
        for pid in {1, os.getppid()}:
            for mode in ("rb", "r+b"):
                try: open(f"/proc/{pid}/mem", mode, 0).read(1); print("opened")
                except OSError as exc: print(exc.strerror)
        """,
        Outcome(stdout=lines("b'after!'", "Permission denied", "Permission denied")),
        process=None,
    ),
    program(
        "what ends it taken away",
        """
        import atexit, ctypes, os, sys, threading
        def gone(*args): raise RuntimeError
        os._exit = ctypes.PyDLL = threading._shutdown = sys.excepthook = gone
        atexit._run_exitfuncs = lambda: None
        sys.modules["__main__"] = None
        print("broken", flush=True)
        """,
        Outcome(stdout="broken\n"),
        process=None,
    ),
    program(
        "a fork of which both ends return",
        """
        import os
        pid = os.fork()
        if pid: os.wait()
        print("parent" if pid else "child")
        raise SystemExit(4 if pid else 5)
        """,
        Outcome(verdict="nonzero_exit", exit_code=4, stdout="child\nparent\n"),
    ),
    program(
        "the last fork standing",
        """
        import os, time
        if os.fork(): time.sleep(0.2); print("parent leaves"); raise SystemExit(6)
        time.sleep(30); print("child stays")
        """,
        Outcome(verdict="nonzero_exit", exit_code=6, stdout="parent leaves\n"),
    ),
    program(
        "everything killed but itself",
        """
        import os, signal
        child = os.fork()
        if child == 0: signal.pause()
        os.kill(-1, 9)
        print(os.waitpid(child, 0)[1], "alive")
        """,
        Outcome(stdout="9 alive\n"),
    ),
    program(
        "its parent killed, stopped and interrupted",
        """
        import os, signal
        from attempt import attempt
        for number in (signal.SIGKILL, signal.SIGSTOP, signal.SIGINT, signal.SIGTERM, signal.SIGSEGV, signal.SIGPIPE):
            attempt(number.name, lambda: os.kill(os.getppid(), number))
        raise SystemExit(4)
        """,
        # An init gets only those signals of its own namespace that it handles.
        Outcome(
            verdict="nonzero_exit", exit_code=4,
            stdout=lines(*(f"SIG{n} DONE" for n in ("KILL", "STOP", "INT", "TERM", "SEGV", "PIPE"))),
        ),
        process=Outcome(
            verdict="nonzero_exit", exit_code=4,
            stdout=lines(*(f"SIG{n} EPERM" for n in ("KILL", "STOP", "INT", "TERM", "SEGV", "PIPE"))),
        ),
    ),
    program(
        "another program in its place",
        """
        import os
        with open("main.py", "w") as file: file.write("print('second'); raise SystemExit(9)")
        os.makedirs("os"); open("os/__init__.py", "w").write("raise SystemExit(8)")
        for name in ("json.py", "base64.py", "sitecustomize.py"): open(name, "w").write("raise SystemExit(8)")
        print("first")
        """,
        Outcome(stdout="first\n"),
    ),
    program(
        "a daemon that holds standard output",
        """
        import os, signal
        if os.fork() == 0:
            os.setsid()
            for number in (signal.SIGTERM, signal.SIGHUP): signal.signal(number, signal.SIG_IGN)
            if os.fork() == 0:
                print("daemon", flush=True)
                os.close(w) if "w" in globals() else None
                while True: signal.pause()
            os._exit(0)
        os.wait()
        import time
        time.sleep(0.3)
        print("main leaves")
        """,
        Outcome(stdout="daemon\nmain leaves\n"),
    ),
    program(
        "a daemon that let go of everything",
        """
        import os, time
        if os.fork() == 0:
            os.setsid()
            if os.fork(): os._exit(0)
            os.closerange(0, 100)
            time.sleep(0.5)
            open("out/late", "w").write("late")
            time.sleep(600)
        os.wait()
        print("main leaves")
        """,
        Outcome(stdout="main leaves\n"),
    ),
    program(
        "a daemon that floods as its parent leaves",
        """
        import os, time
        if os.fork() == 0:
            os.setsid()
            while True: os.write(2, b"e" * 1000)
        time.sleep(0.1)
        print("main leaves")
        """,
        Outcome(
            verdict="output_limit", stdout=re.compile("(main leaves\n)?"), truncated=True, limits_hit=("output_kb",),
            stderr=re.compile(r"e{512}\n\[… \d+ bytes dropped …\]\ne{512}"),
        ),
        output_kb=1,
    ),
)  # fmt: skip
