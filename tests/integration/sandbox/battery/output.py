"""Programs whose output is too much, no text, or goes where it should not."""

from __future__ import annotations

import re

from tests.integration.sandbox.battery.program import Outcome, lines, program

OUTPUT = (
    program(
        "a flood on both streams",
        """
        import os, threading
        def flood(fd, data):
            while True: os.write(fd, data)
        threading.Thread(target=flood, args=(2, b"e" * 4096), daemon=True).start()
        flood(1, b"o" * 4096)
        """,
        Outcome(
            verdict="output_limit",
            stdout=re.compile(r"o{2048}\n\[… \d+ bytes dropped …\]\no{2048}"),
            stderr=re.compile(r"(e{2048}\n\[… \d+ bytes dropped …\]\ne{2048})?"),
            limits_hit=("output_kb",),
            truncated=True,
        ),
        output_kb=4,
    ),
    program(
        "one line of 10 MB",
        """
        import sys
        print("x" * 10_000_000, end="")
        print("y" * 10, end="", file=sys.stderr)
        """,
        Outcome(
            stdout=f"{'x' * 131072}\n[… {10_000_000 - 262144} bytes dropped …]\n{'x' * 131072}",
            stderr="y" * 10,
            limits_hit=("output_kb",),
            truncated=True,
        ),
    ),
    program(
        "exactly what is kept, and a byte more",
        "import sys; sys.stdout.write('x' * 4096); sys.stderr.write('y' * 4097)",
        Outcome(
            stdout="x" * 4096,
            stderr=f"{'y' * 2048}\n[… 1 bytes dropped …]\n{'y' * 2048}",
            limits_hit=("output_kb",),
            truncated=True,
        ),
        output_kb=4,
    ),
    program(
        "bytes that are no text",
        r"""
        import os
        os.write(1, b"\xff\xfe \xc0\xaf \xed\xa0\x80 \xf4\x90\x80\x80 ok\n")
        os.write(2, b"fine\n")
        """,
        Outcome(
            stdout="\ufffd\ufffd \ufffd\ufffd \ufffd\ufffd\ufffd \ufffd\ufffd\ufffd\ufffd ok\n",
            stderr="fine\n",
            lossy=True,
        ),
    ),
    program(
        "zeros among the text",
        r"import os; os.write(1, b'a\0b\n'); os.write(2, b'\0\0')",
        Outcome(stdout="a\ufffdb\n", stderr="\ufffd\ufffd", lossy=True),
    ),
    program(
        "characters in pieces",
        r"""
        import os, time
        for piece in (b"\xe2", b"\x82", b"\xac", b"\xf0\x9f", b"\x98\x80", b"\n"): os.write(1, piece); time.sleep(0.1)
        """,
        Outcome(stdout="€😀\n"),
    ),
    program(
        "half a character at the end",
        r"import os; os.write(1, b'\xe2\x82\xac\xe2\x82')",
        Outcome(stdout="€\ufffd", lossy=True),
    ),
    program(
        "escapes for a terminal",
        r"import os; os.write(1, b'\x1b[2J\x1b]0;owned\x07\x1b[31mred\r\x08\x9b31m\n')",
        Outcome(stdout="\x1b[2J\x1b]0;owned\x07\x1b[31mred\r\x08\ufffd31m\n", lossy=True),
    ),
    program(
        "standard output closed",
        """
        import os
        from attempt import attempt
        os.close(1)
        try: print("x")
        except OSError as exc: os.write(2, f"{exc.strerror}\\n".encode())
        """,
        Outcome(stderr="Bad file descriptor\n"),
    ),
    program(
        "every descriptor closed",
        """
        import os
        os.write(1, b"closing\\n")
        os.closerange(0, 1000)
        fds = [os.open("/dev/null", os.O_RDWR) for _ in range(8)]
        try: os.write(1, b"lost"); os.write(2, b"lost")
        finally: open("out/fds", "w").write(repr(fds))
        """,
        Outcome(stdout="closing\n", artifacts={"fds": b"[0, 1, 2, 3, 4, 5, 6, 7]"}),
    ),
    program(
        "standard output sent to an artifact",
        """
        import os
        print("to the pipe", flush=True)
        os.dup2(os.open("out/log", os.O_CREAT | os.O_WRONLY), 1)
        print("to the file", flush=True)
        """,
        Outcome(stdout="to the pipe\n", artifacts={"log": b"to the file\n"}),
    ),
    program(
        "pipes made tiny, read back and made non-blocking",
        """
        import fcntl, os
        from attempt import attempt
        attempt("size", lambda: fcntl.fcntl(1, 1031, 4096))
        attempt("flags", lambda: fcntl.fcntl(1, fcntl.F_SETFL, os.O_NONBLOCK))
        attempt("owner", lambda: fcntl.fcntl(1, fcntl.F_SETOWN, 1))
        attempt("signal", lambda: fcntl.fcntl(1, fcntl.F_SETSIG, 9))
        attempt("async", lambda: fcntl.fcntl(1, fcntl.F_SETFL, os.O_NONBLOCK | os.O_ASYNC))
        print("still here")
        """,
        Outcome(stdout=lines("size DONE", "flags DONE", "owner DONE", "signal DONE", "async DONE", "still here")),
    ),
    program(
        "a megabyte of input that nobody reads",
        "print('not reading')",
        Outcome(stdout="not reading\n"),
        stdin="x" * 1_000_000,
    ),
    program(
        "input closed at once",
        "import os, time; os.close(0); time.sleep(0.2); print('closed')",
        Outcome(stdout="closed\n"),
        stdin="x" * 1_000_000,
    ),
)
