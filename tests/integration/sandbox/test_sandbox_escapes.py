"""Hostile programs, in both sandboxes. Each asserts that it tried before it asserts that it failed."""

from __future__ import annotations

import json
import os
import socket
import tempfile
import textwrap
from pathlib import Path

import pytest

from tests.integration.sandbox.sandboxes import FORKS, Heard, Run, processes_with, run_in, unique, until
from workers.sandbox import Sandbox, Verdict
from workers.sandbox.frames import END, STDOUT, pack

SYSCALLS = Path(__file__).with_name("syscalls.py").read_text()


def test_frames_cannot_be_forged(run: Run) -> None:
    """A program writes a forged end to every descriptor it or its supervisor has, and then ends with 3."""
    forged = pack(END, json.dumps({"exit_code": 0, "reason": None}).encode()) + pack(STDOUT, b"forged")
    result = run(
        f"""
        import os
        forged = {forged!r}
        tried = 0
        for fd in range(256):
            try: os.write(fd, forged) if fd != 3 else 0
            except OSError: pass
        for pid in {{"1", str(os.getppid()), *filter(str.isdigit, os.listdir("/proc"))}} - {{str(os.getpid())}}:
            for name in ("fd/0", "fd/1", "fd/2", "fd/4", "mem"):
                tried += 1
                try: open(f"/proc/{{pid}}/{{name}}", "wb").write(forged); print("opened", pid, name)
                except OSError: pass
            try: print("environ", pid, open(f"/proc/{{pid}}/environ").read())
            except OSError: pass
        print("tried", tried)
        raise SystemExit(3)
        """
    )
    assert (result.verdict, result.exit_code) == (Verdict.NONZERO_EXIT, 3)
    assert "opened" not in result.stdout
    assert "environ" not in result.stdout
    assert int(result.stdout.split("tried ")[1]) >= 5
    assert "forged" in result.stdout  # its own standard output, where it may write what it likes


def test_the_supervisor_can_be_neither_killed_nor_stopped(run: Run) -> None:
    result = run(
        """
        import os, signal
        for pid in {1, os.getppid()}:
            for number in (signal.SIGKILL, signal.SIGSTOP, signal.SIGINT, signal.SIGTERM, signal.SIGCHLD):
                try: os.kill(pid, number)
                except OSError: pass
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        try: os.kill(-1, signal.SIGTERM)
        except OSError: pass
        print("alive", flush=True)
        raise SystemExit(4)
        """
    )
    assert (result.verdict, result.exit_code, result.stdout) == (Verdict.NONZERO_EXIT, 4, "alive\n")


def test_a_supervisor_made_to_fail_takes_the_program_with_it_and_buys_no_retry(run: Run, sandbox: Sandbox) -> None:
    token = unique("limits")
    code = f"""
    import os, resource, time
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0: time.sleep(60)
        os._exit(0)
    os.wait()
    limited = 0
    for pid in {{1, os.getppid()}}:
        for what in (resource.RLIMIT_NOFILE, resource.RLIMIT_DATA, resource.RLIMIT_CPU):
            try: resource.prlimit(pid, what, (0, 0)); limited += 1
            except OSError: pass
    print("limited", limited, flush=True)
    time.sleep(1 if limited == 0 else 60)
    # {token}
    """
    result = run(argv=("/usr/bin/env", "python3", "-c", textwrap.dedent(code)), wall_s=10)
    # In the process sandbox of root the program has its supervisor's user id; elsewhere it may limit nobody.
    reachable = sandbox.name == "process" and os.geteuid() == 0
    assert result.verdict is (Verdict.SIGNALED if reachable else Verdict.OK)
    if not reachable:
        assert result.stdout == "limited 0\n"
    assert processes_with(token) == []


def test_a_fork_bomb_hits_the_limit_and_nothing_of_it_survives(run: Run) -> None:
    token = unique("bomb")
    code = f"""
    import os, time
    print("bomb", flush=True)
    while True:
        try: os.fork()
        except OSError: time.sleep(0.01)
    # {token}
    """
    result = run(argv=("/usr/bin/env", "python3", "-c", textwrap.dedent(code)), pids=24, wall_s=1.5, cpu_s=60)
    assert result.verdict is Verdict.TIMEOUT
    assert result.stdout.startswith("bomb")
    assert processes_with(token) == []


def test_pids_are_limited(run: Run) -> None:
    said, forks = run(FORKS, pids=10).stdout.splitlines()
    assert said == "Resource temporarily unavailable"
    assert 5 <= int(forks) <= 10


def test_daemons_do_not_outlive_the_program(run: Run) -> None:
    token = unique("daemon")
    heard = Heard()
    result = run(
        f"""
        import os, sys
        r, w = os.pipe()
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                os.set_inheritable(w, True)
                script = f"trap '' TERM HUP; echo >&{{w}}; while :; do sleep 1; done; : {token}"
                os.execv("/bin/sh", ["sh", "-c", script])
            os._exit(0)
        os.read(r, 1)
        print("daemon is up")
        """,
        heard=heard,
    )
    assert (result.verdict, result.stdout) == (Verdict.OK, "daemon is up\n")
    until(lambda: processes_with(token) == [], 2)


def test_a_program_whose_first_thread_leaves_is_still_watched(run: Run) -> None:
    result = run(
        """
        import ctypes, threading, time
        threading.Thread(target=time.sleep, args=(60,)).start()
        print("leaving", flush=True)
        ctypes.CDLL(None).syscall(60 if ctypes.sizeof(ctypes.c_long) == 8 else 1, 0)
        """,
        wall_s=1,
    )
    assert (result.verdict, result.stdout) == (Verdict.TIMEOUT, "leaving\n")
    assert result.wall_ms is not None  # its supervisor was not stuck waiting for it


def test_there_is_no_network(run: Run) -> None:
    """Not even to a server of this machine that is there."""
    with socket.create_server(("127.0.0.1", 0)) as server, tempfile.TemporaryDirectory() as directory:
        os.chmod(directory, 0o755)
        named = socket.socket(socket.AF_UNIX)
        named.bind(f"{directory}/s")
        os.chmod(f"{directory}/s", 0o777)
        named.listen()
        abstract = socket.socket(socket.AF_UNIX)
        abstract.bind(f"\0{unique('abstract')}")
        abstract.listen()
        with named, abstract:
            result = run(
                f"""
                import socket
                def attempt(family, kind, address):
                    try:
                        s = socket.socket(family, kind); s.settimeout(2); s.connect(address); s.send(b"x")
                        if kind == socket.SOCK_DGRAM: s.recv(1)
                        print("reached", address)
                    except OSError as exc: print("no", address)
                attempt(socket.AF_INET, socket.SOCK_STREAM, {server.getsockname()!r})
                attempt(socket.AF_INET, socket.SOCK_STREAM, ("203.0.113.1", 80))
                attempt(socket.AF_INET, socket.SOCK_DGRAM, ("203.0.113.1", 53))
                attempt(socket.AF_INET6, socket.SOCK_STREAM, ("2001:db8::1", 80))
                attempt(socket.AF_UNIX, socket.SOCK_STREAM, {named.getsockname()!r})
                attempt(socket.AF_UNIX, socket.SOCK_STREAM, {abstract.getsockname()!r})
                attempt(socket.AF_UNIX, socket.SOCK_STREAM, "/var/run/docker.sock")
                """
            )
    assert result.verdict is Verdict.OK, result.stderr
    assert "reached" not in result.stdout
    assert result.stdout.count("no ") == 7


def test_nothing_of_ours_is_in_its_environment(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://user:hunter2@db/clawq")
    result = run("import os; print(sorted(os.environ))", env={"MINE": "1"})
    assert "DATABASE_URL" not in result.stdout
    expected = {"CLAWQ_PROGRESS_FD", "HOME", "LANG", "MINE", "PATH", "PYTHONUNBUFFERED"}
    assert expected <= set(eval(result.stdout)) <= expected | {"TMPDIR", "PWD", "OLDPWD", "LC_CTYPE"}


def test_files_outside_cannot_be_touched(run: Run) -> None:
    """World-writable, so that only the sandbox itself stands in the way."""
    with tempfile.TemporaryDirectory() as directory:
        os.chmod(directory, 0o777)
        secret = Path(directory, "secret")
        secret.write_text("TOPSECRET")
        secret.chmod(0o666)
        result = run(
            f"""
            import os
            path = {str(secret)!r}
            os.symlink(path, "link"); os.symlink("/", "root")
            def attempt(name, call):
                try: print("DID", name, call())
                except OSError: print("no", name)
            attempt("read", lambda: open(path).read())
            attempt("symlink", lambda: open("link").read())
            attempt("through root", lambda: open("root" + path).read())
            attempt("dots", lambda: open("../" * 12 + path).read())
            attempt("proc root", lambda: open("/proc/self/root" + path).read())
            attempt("dirfd", lambda: os.open(path[1:], os.O_RDONLY, dir_fd=os.open("/", os.O_PATH)))
            attempt("write", lambda: open(path, "w"))
            attempt("truncate", lambda: os.truncate(path, 0))
            attempt("unlink", lambda: os.unlink(path))
            attempt("rename", lambda: os.rename(path, "mine"))
            attempt("link", lambda: os.link(path, "mine"))
            attempt("create", lambda: open(path + "2", "w"))
            attempt("mkdir", lambda: os.mkdir(path + "3"))
            attempt("chmod", lambda: os.chmod(path, 0o600))
            attempt("system", lambda: open("/usr/lib/x", "w"))
            attempt("etc", lambda: open("/etc/x", "w"))
            attempt("device", lambda: open("/dev/x", "w"))
            attempt("sys", lambda: open("/sys/kernel/uevent_helper", "w"))
            """
        )
        assert result.verdict is Verdict.OK, result.stderr
        assert "DID" not in result.stdout
        assert result.stdout.count("no ") == 18
        assert (secret.read_text(), os.listdir(directory)) == ("TOPSECRET", ["secret"])


def test_dangerous_system_calls_answer_with_an_error_and_do_not_kill(run: Run, sandbox: Sandbox) -> None:
    result = run(SYSCALLS)
    assert result.verdict is Verdict.OK, result.stderr
    answers = dict(line.split("=") for line in result.stdout.split())
    assert answers.pop("getpid") == "OK"
    own_uid = sandbox.name == "docker" or os.geteuid() == 0
    assert answers.pop("prlimit_self") == ("OK" if own_uid else "EPERM")
    assert len(answers) > 40
    allowed = {name for name, answer in answers.items() if answer not in ("EPERM", "ENOSYS", "EAFNOSUPPORT")}
    assert allowed <= ({"prlimit_supervisor"} if sandbox.name == "process" else set())


def test_the_disk_is_limited(sandbox: Sandbox) -> None:
    """The container's file system is full; the process sandbox notices within a second and kills."""
    result = run_in(
        sandbox,
        """
        import itertools
        for i in itertools.count(): open(f"f{i}", "wb").write(b"x" * (1 << 20)); print(i + 1, flush=True)
        """,
        disk_mb=16,
        memory_mb=128,
    )
    written = int(result.stdout.split()[-1])
    if sandbox.name == "docker":
        assert "No space left" in result.stderr
        assert written <= 16
    else:
        assert (result.verdict, str(result.error)[:30]) == (Verdict.SIGNALED, "The program was killed: it wro")
        assert written < 16_000


def test_one_huge_file_and_too_many_files(docker_sandbox: Sandbox) -> None:
    code = """
    try: open("/tmp/big", "wb").truncate(1 << 40)
    except OSError as exc: print(exc.strerror)
    try:
        for i in range(100_000): open(f"n{i}", "w").close()
    except OSError as exc: print(exc.strerror)
    """
    assert run_in(docker_sandbox, code).stdout.splitlines() == ["File too large", "No space left on device"]
