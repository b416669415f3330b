"""Programs whose artifacts are too many, too large, or no files at all."""

from __future__ import annotations

from tests.integration.sandbox.battery.program import Outcome, lines, program

_MIB = 1 << 20
_NO_FILE = "it is not a regular file"

ARTIFACTS = (
    program(
        "what is not a regular file",
        """
        import os, socket
        from attempt import attempt
        os.chdir("out")
        attempt("file", lambda: os.symlink("/etc/passwd", "file"))
        attempt("root", lambda: os.symlink("/", "root"))
        attempt("loop", lambda: os.symlink("loop", "loop"))
        attempt("up", lambda: os.symlink("..", "up"))
        attempt("nowhere", lambda: os.symlink("/nowhere", "nowhere"))
        attempt("fifo", lambda: os.mkfifo("fifo"))
        attempt("socket", lambda: socket.socket(socket.AF_UNIX).bind("socket"))
        attempt("device", lambda: os.mknod("device", 0o20666, os.makedev(1, 5)))
        open("good", "w").write("good")
        """,
        Outcome(
            stdout=lines(
                *(f"{name} DONE" for name in ("file", "root", "loop", "up", "nowhere", "fifo", "socket")),
                "device EPERM",
            ),
            artifacts={"good": b"good"},
            left=tuple(f"{name}: {_NO_FILE}" for name in ("fifo", "file", "loop", "nowhere", "root", "socket", "up")),
        ),
        process=None,
    ),
    program(
        "hard links",
        """
        import os
        from attempt import attempt
        open("mine", "w").write("mine")
        attempt("own", lambda: os.link("mine", "out/own"))
        attempt("again", lambda: os.link("mine", "out/again"))
        attempt("passwd", lambda: os.link("/etc/passwd", "out/passwd"))
        attempt("environ", lambda: os.link("/proc/1/environ", "out/environ"))
        """,
        Outcome(
            stdout=lines("own DONE", "again DONE", "passwd EXDEV", "environ EXDEV"),
            artifacts={"own": b"mine", "again": b"mine"},
        ),
        process=None,
    ),
    program(
        "out is a link to a directory of the system",
        "import os, shutil; shutil.rmtree('out'); os.symlink('/etc', 'out'); print(len(os.listdir('out')) > 3)",
        Outcome(stdout="True\n", left=("out: it is not a directory",)),
        process=None,
    ),
    program(
        "out is a link to another directory",
        """
        import os
        os.rename("out", "real"); os.symlink("real", "out")
        open("out/x", "w").write("x")
        print(os.listdir("real"))
        """,
        Outcome(stdout="['x']\n", left=("out: it is not a directory",)),
    ),
    program(
        "out is a file",
        "import os; os.rmdir('out'); print(open('out', 'w').write('x'))",
        Outcome(stdout="1\n", left=("out: it is not a directory",)),
    ),
    program(
        "out is gone",
        "import os; os.rmdir('out'); print(os.path.exists('out'))",
        Outcome(stdout="False\n", left=("out: No such file or directory",)),
    ),
    program(
        "modes that let nobody in",
        """
        import os
        os.makedirs("out/d/e")
        for name in ("out/a", "out/d/b", "out/d/e/c"): open(name, "w").write(name); os.chmod(name, 0)
        for name in ("out/d/e", "out/d", "out", "."): os.chmod(name, 0)
        print("closed")
        """,
        Outcome(stdout="closed\n", artifacts={"a": b"out/a", "d/b": b"out/d/b", "d/e/c": b"out/d/e/c"}),
    ),
    program(
        "a hundred thousand of them",
        """
        import os
        from attempt import until_refused
        print(until_refused(lambda n: os.close(os.open(f"out/n{n:06}", os.O_CREAT))))
        """,
        Outcome(
            stdout="16378 ENOSPC\n",
            limits_hit=("disk_mb",),
            artifacts={f"n{n:06}": 0 for n in range(256)},
            left=("out: there are more than 256 files",),
        ),
        process=Outcome(
            stdout="100000 and no end\n",
            artifacts={f"n{n:06}": 0 for n in range(256)},
            left=("out: there are more than 256 files",),
        ),
    ),
    program(
        "exactly as many as there may be",
        "for n in range(256): print(n, file=open(f'out/{n:03}', 'w'))",
        Outcome(artifacts={f"{n:03}": f"{n}\n".encode() for n in range(256)}),
    ),
    program(
        "one more than there may be",
        "for n in range(257): print(n, file=open(f'out/{n:03}', 'w'))",
        Outcome(
            artifacts={f"{n:03}": f"{n}\n".encode() for n in range(256)},
            left=("out: there are more than 256 files",),
        ),
    ),
    program(
        "as large as they may be, and one byte more",
        f"""
        with open("out/a", "wb") as file: file.write(b"a" * {8 * _MIB})
        with open("out/b", "wb") as file: file.write(b"b" * {8 * _MIB + 1})
        with open("out/c", "wb") as file: file.truncate({8 * _MIB})
        """,
        Outcome(
            artifacts={"a": b"a" * (8 * _MIB), "c": bytes(8 * _MIB)},
            left=("b: it is larger than 8388608 bytes",),
        ),
    ),
    program(
        "as much as may be together, and one byte more",
        f"""
        for name in "abcd":
            with open(f"out/{{name}}", "wb") as file: file.write(name.encode() * {8 * _MIB})
        open("out/e", "wb").write(b"e")
        open("out/f", "wb").close()
        """,
        Outcome(
            artifacts={**{name: name.encode() * (8 * _MIB) for name in "abcd"}, "f": b""},
            left=("e: all together are larger than 33554432 bytes",),
        ),
    ),
    program(
        "directories too deep",
        """
        import os
        os.makedirs("out/1/2/3/4/5/6/7/8/9")
        for depth in (7, 8, 9): open("/".join(["out", *map(str, range(1, depth + 1)), "file"]), "w").write("x")
        os.chdir("out")
        depth = 0
        while depth < 1000: os.mkdir("d" * 200); os.chdir("d" * 200); depth += 1
        open("lost", "w").close()
        print(depth)
        """,
        Outcome(
            stdout="1000\n",
            artifacts={"1/2/3/4/5/6/7/file": b"x", "1/2/3/4/5/6/7/8/file": b"x"},
            left=(
                "1/2/3/4/5/6/7/8/9: it lies too deep",
                f"{'d' * 80}: it lies too deep",
            ),
        ),
        process=None,
    ),
    program(
        "names too long",
        """
        import os
        os.mkdir("out/" + "d" * 100)
        for name in ("a" * 255, "d" * 100 + "/" + "b" * 154, "d" * 100 + "/" + "c" * 155, "é" * 127):
            open(f"out/{name}", "w").write("x")
        """,
        Outcome(
            artifacts={"a" * 255: b"x", f"{'d' * 100}/{'b' * 154}": b"x", "é" * 127: b"x"},
            left=(f"{'d' * 80}: its name is longer than 255 bytes",),
        ),
    ),
    program(
        "names from everywhere",
        r"""
        names = [
            "ü", "u\u0308", "日本", "😀", " ", "-rf", "'; DROP TABLE tasks; --", "<script>", "a\\b", "...", "..x",
            "%2e%2e", "CON", "$(id)", "*", "~", ".hidden", "\ufeffbom", "\u200bzero",
            "line\nbreak", "tab\t", "\x1b[31m", "\x7f", "\x85", "\u2028", "\u202egpj.exe", "\u2066x", "\u200f",
        ]
        for name in names: open(f"out/{name}", "w").write("x")
        for name in (b"\xff\xfe", b"\xc0\xaf", b"\xed\xa0\x80"): open(b"out/" + name, "w").write("x")
        print(len(names))
        """,
        Outcome(
            stdout="28\n",
            artifacts=dict.fromkeys(
                (
                    *("ü", "u\u0308", "日本", "😀", " ", "-rf", "'; DROP TABLE tasks; --", "<script>", "a\\b", "..."),
                    *("..x", "%2e%2e", "CON", "$(id)", "*", "~", ".hidden", "\ufeffbom", "\u200bzero"),
                ),
                b"x",
            ),
            left=(
                r"\x1b[31m: its name has control characters",
                r"line\nbreak: its name has control characters",
                r"tab\t: its name has control characters",
                r"\x7f: its name has control characters",
                r"\xc0\xaf: its name is not UTF-8",
                r"\xc2\x85: its name has control characters",
                r"\xe2\x80\x8f: its name has control characters",
                r"\xe2\x80\xa8: its name has control characters",
                r"\xe2\x80\xaegpj.exe: its name has control characters",
                r"\xe2\x81\xa6x: its name has control characters",
                r"\xed\xa0\x80: its name is not UTF-8",
                r"\xff\xfe: its name is not UTF-8",
            ),
        ),
    ),
    program(
        "more left behind than anybody wants to read",
        "for n in range(100): open(f'out/line\\n{n:02}', 'w').close()\nprint(n)",
        Outcome(
            stdout="99\n",
            left=tuple(rf"line\n{n:02}: its name has control characters" for n in range(20)),
        ),
    ),
    program(
        "a daemon that writes artifacts to the last",
        """
        import os, time
        if os.fork() == 0:
            os.setsid()
            while True:
                with open("out/growing", "ab") as file: file.write(b"x" * 100)
        while not os.path.exists("out/growing"): time.sleep(0.01)
        print("started")
        """,
        Outcome(stdout="started\n", artifacts={"growing": None}),
    ),
    program(
        "artifacts of a program that fails",
        "open('out/so far', 'w').write('x'); raise SystemExit(3)",
        Outcome(verdict="nonzero_exit", exit_code=3, artifacts={"so far": b"x"}),
    ),
    program(
        "artifacts of a program that does not end",
        "open('out/so far', 'w').write('x')\nwhile True: pass",
        Outcome(verdict="timeout", limits_hit=("wall_s",), artifacts={"so far": b"x"}),
        wall_s=1,
    ),
)  # fmt: skip
