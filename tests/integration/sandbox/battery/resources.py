"""Programs that want more than they may have: processes, memory, disk, descriptors."""

from __future__ import annotations

import re

from tests.integration.sandbox.battery.program import Outcome, lines, program

_RAISED = ("NOFILE", "FSIZE", "CORE", "CPU")

RESOURCES = (
    program(
        "fork bomb",
        """
        import os, signal
        first, said = os.getpid(), False
        while True:
            try: os.fork()
            except OSError as exc:
                if os.getpid() == first and not said: print(exc.strerror, flush=True); said = True
        """,
        Outcome(verdict="timeout", stdout="Resource temporarily unavailable\n", limits_hit=("pids", "wall_s")),
        process=Outcome(verdict="timeout", stdout="Resource temporarily unavailable\n", limits_hit=("wall_s",)),
        # In the process sandbox what they share counts for each.
        memory_mb=1024,
        wall_s=2,
    ),
    program(
        "thread bomb",
        """
        import threading
        never, count = threading.Event(), 0
        try:
            while count < 1000: threading.Thread(target=never.wait, daemon=True).start(); count += 1
        except RuntimeError as exc: print(count, exc)
        """,
        Outcome(stdout="31 can't start new thread\n", limits_hit=("pids",)),
        process=Outcome(stdout=re.compile(r"\d\d can't start new thread\n")),
    ),
    program(
        "zombies that are never reaped",
        """
        import os
        from attempt import until_refused
        print(until_refused(lambda n: os.fork() or os._exit(0), 1000))
        """,
        Outcome(stdout="31 EAGAIN\n", limits_hit=("pids",)),
        process=None,
    ),
    program(
        "a thousand orphans",
        """
        import os, time
        made = 0
        while made < 1000:
            pid = os.fork()
            if pid == 0:
                try: os.fork()
                except OSError: os._exit(1)
                os._exit(0)
            if os.waitpid(pid, 0)[1] == 0: made += 1
            else: time.sleep(0.01)
        print(made)
        """,
        Outcome(stdout="1000\n", perhaps=("pids",)),
    ),
    program(
        "memory bomb of one process",
        """
        import time
        print("eating", flush=True)
        eaten = []
        for _ in range(100): eaten.append(bytearray(b"x") * (4 << 20)); time.sleep(0.01)
        print("full")
        """,
        Outcome(verdict="oom", signal=9, stdout="eating\n", limits_hit=("memory_mb",)),
        process=Outcome(verdict="oom", stdout="eating\n", limits_hit=("memory_mb",)),
    ),
    program(
        "memory bomb of many children, survived",
        """
        import os, time
        for _ in range(8):
            if os.fork() == 0: eaten = bytearray(b"x") * (32 << 20); time.sleep(2); os._exit(0)
        print("some killed", 9 in [os.wait()[1] for _ in range(8)])
        """,
        Outcome(stdout="some killed True\n", limits_hit=("memory_mb",)),
        process=Outcome(verdict="oom", limits_hit=("memory_mb",)),
    ),
    program(
        "memory bomb of many children, died of",
        """
        import os, sys, time
        for _ in range(8):
            if os.fork() == 0: eaten = bytearray(b"x") * (32 << 20); time.sleep(2); os._exit(0)
        sys.exit(5 if 9 in [os.wait()[1] for _ in range(8)] else 0)
        """,
        Outcome(verdict="oom", exit_code=5, limits_hit=("memory_mb",)),
        process=None,
    ),
    program(
        "memory that is reserved, then touched",
        """
        import mmap
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x4000
        try: space = mmap.mmap(-1, 1 << 40, flags)
        except OSError as exc: print(exc.strerror); raise SystemExit
        print("reserved", flush=True)
        for at in range(0, 1 << 40, 4096): space[at] = 1
        """,
        Outcome(verdict="oom", signal=9, stdout="reserved\n", limits_hit=("memory_mb",)),
        # sandlock kills whoever maps more than it may.
        process=Outcome(verdict="signaled", signal=9),
    ),
    program(
        "memory in files without a name",
        """
        import os
        try: fds = [os.memfd_create("x") for _ in range(8)]
        except OSError as exc: print(exc.strerror); raise SystemExit
        print("made", len(fds), flush=True)
        for fd in fds:
            for _ in range(48): os.write(fd, b"x" * (1 << 20))
        """,
        Outcome(verdict="oom", signal=9, stdout="made 8\n", limits_hit=("memory_mb",)),
        process=Outcome(stdout="Operation not permitted\n"),
    ),
    program(
        "files that are memory",
        """
        print("filling", flush=True)
        for i in range(500): open(f"f{i}", "wb").write(b"x" * (1 << 20))
        """,
        Outcome(verdict="oom", signal=9, stdout="filling\n", limits_hit=("memory_mb",)),
        process=None,
        disk_mb=512,
        memory_mb=48,
    ),
    program(
        "shared memory without a process that holds it",
        """
        import ctypes
        libc = ctypes.CDLL(None)
        libc.shmat.restype = ctypes.c_void_p
        print("filling", flush=True)
        for i in range(16):
            segment = libc.shmget(0, 16 << 20, 0o1600)
            if segment < 0: print("refused"); break
            ctypes.memset(libc.shmat(segment, None, 0), 1, 16 << 20)
        """,
        Outcome(verdict="oom", signal=9, stdout="filling\n", limits_hit=("memory_mb",)),
        process=None,
    ),
    program(
        "disk filled with bytes",
        """
        from attempt import until_refused
        print(until_refused(lambda n: open(f"f{n}", "wb", 0).write(b"x" * (1 << 20)) == 1 << 20 or open("", "r")))
        """,
        Outcome(stdout="63 ENOENT\n", limits_hit=("disk_mb",)),
        process=None,
    ),
    program(
        "disk filled slowly",
        """
        import itertools, time
        print("filling", flush=True)
        for i in itertools.count():
            with open(f"f{i}", "wb") as file: file.write(b"x" * (4 << 20))
            time.sleep(0.01)
        """,
        Outcome(
            verdict="nonzero_exit", exit_code=1, stdout="filling\n",
            stderr=re.compile(r"(?s)Traceback.*OSError: \[Errno 28\] No space left on device\n"),
            limits_hit=("disk_mb",),
        ),
        process=Outcome(verdict="signaled", stdout="filling\n", limits_hit=("disk_mb",)),
    ),
    program(
        "disk filled with names",
        """
        import os
        from attempt import until_refused
        print(until_refused(lambda n: os.close(os.open(f"n{n}", os.O_CREAT))))
        """,
        # Less its root, out, main.py, attempt.py and its byte code.
        Outcome(stdout="16378 ENOSPC\n", limits_hit=("disk_mb",)),
        process=None,
    ),
    program(
        "temporary and shared memory directories filled",
        """
        from attempt import until_refused
        for place in ("/tmp", "/dev/shm"):
            print(until_refused(lambda n: open(f"{place}/clawq-hostile-{n}", "wb", 0).write(b"x" * (1 << 20))))
        """,
        Outcome(stdout="16 ENOSPC\n16 ENOSPC\n", limits_hit=("disk_mb",)),
        process=None,
    ),
    program(
        "huge and sparse files",
        """
        import os
        from attempt import attempt
        attempt("1 TiB", lambda: open("/tmp/huge", "wb").truncate(1 << 40))
        attempt("a byte more", lambda: open("more", "wb").truncate((64 << 20) + 1))
        attempt("seek and write", lambda: os.pwrite(os.open("more", os.O_RDWR), b"x", 1 << 40))
        attempt("the limit", lambda: open("out/sparse", "wb").truncate(64 << 20))
        """,
        Outcome(
            stdout=lines("1 TiB EFBIG", "a byte more EFBIG", "seek and write EFBIG", "the limit DONE"),
            limits_hit=("file_mb",),
            left=("sparse: it is larger than 8388608 bytes",),
        ),
        process=Outcome(
            stdout=lines("1 TiB EACCES", "a byte more EFBIG", "seek and write EFBIG", "the limit DONE"),
            limits_hit=("file_mb",),
            left=("sparse: it is larger than 8388608 bytes",),
        ),
        file_mb=64,
    ),
    program(
        "a file past its limit, in a shell",
        "echo writing; exec head -c 3000000 /dev/zero > big",
        Outcome(verdict="signaled", signal=25, stdout="writing\n", limits_hit=("file_mb",)),
        language="shell",
        file_mb=1,
    ),
    program(
        "every descriptor taken",
        """
        import os, time
        from attempt import until_refused
        print(until_refused(lambda n: os.dup(0)))
        time.sleep(0.5)
        """,
        Outcome(stdout="60 EMFILE\n", limits_hit=("open_files",)),
        open_files=64,
    ),
    program(
        "pipes, events and watches until none is left",
        """
        import ctypes, os, select
        from attempt import until_refused
        libc, kept = ctypes.CDLL(None, use_errno=True), []
        def checked(fd):
            if fd < 0: raise OSError(ctypes.get_errno(), "refused")
            kept.append(fd)
        for make in (
            lambda n: kept.extend(os.pipe()), lambda n: checked(libc.eventfd(0, 0)),
            lambda n: kept.append(select.epoll()), lambda n: checked(libc.inotify_init()),
            lambda n: checked(libc.timerfd_create(1, 0)), lambda n: checked(libc.signalfd(-1, bytes(128), 0)),
        ):
            print(until_refused(make).split()[1])
            for fd in kept: fd.close() if hasattr(fd, "close") else os.close(fd)
            kept.clear()
        """,
        Outcome(stdout="EMFILE\n" * 6, perhaps=("open_files",)),
        process=None,
        open_files=64,
    ),
    program(
        "limits raised again",
        """
        import resource
        from attempt import attempt
        for name in ("NOFILE", "FSIZE", "CORE", "CPU"):
            which = getattr(resource, "RLIMIT_" + name)
            hard = resource.getrlimit(which)[1]
            if hard == -1: continue
            attempt(name, lambda: resource.setrlimit(which, (hard + 1, hard + 1)))
            attempt(name + " none", lambda: resource.setrlimit(which, (-1, -1)))
        """,
        Outcome(stdout=lines(*(f"{name}{of} ValueError" for name in _RAISED for of in ("", " none")))),
        # There CPU time is only measured.
        process=Outcome(stdout=lines(*(f"{name}{of} ValueError" for name in _RAISED[:3] for of in ("", " none")))),
    ),
)  # fmt: skip
