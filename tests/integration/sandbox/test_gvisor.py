"""The docker sandbox under gVisor, where the engine has the runtime `runsc` (ops/sandbox/runsc registers it)."""

from __future__ import annotations

import json
import platform
import socket

import docker
import pytest

from tests.conftest import missing
from tests.integration.sandbox.sandboxes import FORKS, Heard, Run, in_docker, processes_with, run_in, until
from workers.sandbox import Verdict, gvisor
from workers.sandbox.docker import DockerSandbox
from workers.sandbox.frames import END, pack


@pytest.fixture
def run(client: docker.DockerClient, docker_sandbox: DockerSandbox) -> Run:
    """Run one program under gVisor."""
    if "runsc" not in client.info()["Runtimes"]:
        missing("no gVisor: the engine has no runtime `runsc`; ops/sandbox/runsc registers it")
    return lambda *args, **options: run_in(docker_sandbox, *args, runtime="runsc", **options)


def test_a_good_program(run: Run) -> None:
    result = run(
        """
        import os, sys
        print(sys.argv[1], sys.stdin.read(), open("in/data").read(), os.getuid(), os.getgroups(), os.listdir("out"))
        print("to stderr", file=sys.stderr)
        """,
        args=("ü",),
        stdin="hello",
        files={"in/data": b"content"},
    )
    assert (result.verdict, result.exit_code, result.error) == (Verdict.OK, 0, None)
    assert (result.stdout, result.stderr) == ("ü hello content 65532 [] []\n", "to stderr\n")
    assert (result.sandbox, result.runtime) == ("docker", "runsc")
    assert "the limit on files is one on their bytes, not on their number" in result.unenforced
    assert result.cpu_ms is not None
    assert result.peak_memory_bytes is not None
    assert result.peak_memory_bytes > 1 << 20


def test_what_python_programs_do(run: Run) -> None:
    result = run(
        """
        import concurrent.futures, multiprocessing, socket, sqlite3, subprocess, sys
        if __name__ == "__main__":
            with concurrent.futures.ThreadPoolExecutor(4) as pool: print(sum(pool.map(abs, range(-9, 0))))
            with multiprocessing.Pool(2) as pool: print(pool.map(abs, [-1, -2]))
            print(subprocess.run([sys.executable, "-c", "print(7)"], capture_output=True, text=True).stdout.strip())
            print(sqlite3.connect("data.db").execute("select 6 * 7").fetchone())
            server = socket.create_server(("127.0.0.1", 0))
            client = socket.create_connection(server.getsockname())
            server.accept()[0].sendall(b"hi")
            print(client.recv(2))
        """
    )
    assert (result.verdict, result.stdout) == (Verdict.OK, "45\n[1, 2]\n7\n(42,)\nb'hi'\n")


@pytest.mark.parametrize("code", [1, 137])
def test_exit_codes_are_just_exit_codes(run: Run, code: int) -> None:
    result = run(f"import sys; print('bye'); sys.exit({code})")
    assert (result.verdict, result.exit_code, result.stdout) == (Verdict.NONZERO_EXIT, code, "bye\n")


def test_the_kernel_it_sees_is_gvisors_and_not_the_hosts(run: Run) -> None:
    """Neither its version, its messages, its mounts nor its load."""
    result = run(
        """
        import ctypes, os
        messages = ctypes.create_string_buffer(65536)
        size = ctypes.CDLL(None).klogctl(3, messages, 65536)
        print(messages.raw[:size].decode())
        print(os.uname().release, open("/proc/version").read(), open("/proc/mounts").read())
        """
    )
    assert result.verdict is Verdict.OK, result.stderr
    assert "gVisor" in result.stdout
    assert platform.release() not in result.stdout
    assert "overlay" not in result.stdout.replace("overlayfs_stale_read", "")


def test_the_wall_clock_ends_a_sleeper_and_keeps_what_it_said(run: Run) -> None:
    result = run("import time; print('so far', flush=True); time.sleep(60)", wall_s=0.5)
    assert (result.verdict, result.stdout) == (Verdict.TIMEOUT, "so far\n")


def test_cpu_is_counted_over_all_processes_while_they_run(run: Run) -> None:
    """There is no cgroup to ask, and none of them comes near the limit of one process."""
    result = run(
        """
        import os
        for _ in range(8):
            if os.fork() == 0:
                while True: pass
        os.wait()
        """,
        cpu_s=0.8,
        wall_s=8,
    )
    assert result.verdict is Verdict.CPU_LIMIT


def test_memory_that_is_used_up_is_oom(run: Run) -> None:
    result = run("x = []\nwhile True: x.append(b'a' * (1 << 20))", memory_mb=64)
    assert result.verdict is Verdict.OOM
    assert "64 MiB" in str(result.error)


def test_the_smallest_memory_is_enough_to_start(run: Run) -> None:
    assert run("print(1)", memory_mb=16).verdict is Verdict.OK


def test_pids_are_limited(run: Run) -> None:
    said, forks = run(FORKS, pids=10).stdout.splitlines()
    assert said == "Resource temporarily unavailable"
    assert 5 <= int(forks) <= 10


def test_of_a_fork_bomb_nothing_is_left(run: Run) -> None:
    heard = Heard()
    code = """
    import os, time
    print("bomb", flush=True)
    while True:
        try: os.fork()
        except OSError: time.sleep(0.01)
    """
    result = run(code, pids=16, wall_s=1.5, cpu_s=60, heard=heard)
    assert (result.verdict, result.stdout[:5]) == (Verdict.TIMEOUT, "bomb\n")
    until(lambda: processes_with(heard.started[0]) == [])


def test_the_disk_is_limited(run: Run) -> None:
    result = run(
        """
        import itertools
        for i in itertools.count(): open(f"f{i}", "wb").write(b"x" * (1 << 20)); print(i + 1, flush=True)
        """,
        disk_mb=16,
    )
    assert "No space left" in result.stderr
    assert int(result.stdout.split()[-1]) <= 16


def test_there_is_no_network(run: Run) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        result = run(
            f"""
            import socket
            for address in ({server.getsockname()!r}, ("203.0.113.1", 80)):
                try: socket.create_connection(address, 2); print("reached")
                except OSError: print("no")
            print([name for _, name in socket.if_nameindex()])
            """
        )
    assert (result.verdict, result.stdout) == (Verdict.OK, "no\nno\n['lo']\n")


#: What a hostile program tries twice: as it is, and with all capabilities in a user namespace of its own.
ATTACK = """
    import ctypes, os, resource, signal
    libc = ctypes.CDLL(None, use_errno=True)
    def attack():
        tried = 0
        for name in ("fd/0", "fd/1", "fd/2", "mem"):
            tried += 1
            try: open("/proc/1/" + name, "wb").write(FORGED); print("DID", name)
            except OSError: pass
        for number in (signal.SIGKILL, signal.SIGSTOP, signal.SIGINT, signal.SIGTERM):
            tried += 1
            try: os.kill(1, number); print("DID", number)
            except OSError: pass
        for what in (resource.RLIMIT_NOFILE, resource.RLIMIT_DATA, resource.RLIMIT_CPU):
            tried += 1
            try: resource.prlimit(1, what, (0, 0)); print("DID limit", what)
            except OSError: pass
        for request in (16, 0x4206):
            tried += 1
            if libc.ptrace(request, 1, 0, 0) == 0: print("DID trace")
        for call in (os.setuid, os.seteuid, os.setgid):
            tried += 1
            try: call(0); print("DID", call)
            except OSError: pass
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        try: os.kill(-1, signal.SIGTERM)
        except OSError: pass
        print("tried", tried)
    attack()
    libc.unshare(0x10000000)
    attack()
    print("environ", open("/proc/1/environ").read())
    raise SystemExit(3)
"""


def test_frames_cannot_be_forged_and_the_supervisor_cannot_be_reached(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://user:hunter2@db/clawq")
    forged = pack(END, json.dumps({"exit_code": 0, "reason": None}).encode())
    result = run(ATTACK.replace("FORGED", repr(forged)))
    assert (result.verdict, result.exit_code) == (Verdict.NONZERO_EXIT, 3), result.stderr
    assert result.stdout.count("tried 16") == 2
    assert "DID" not in result.stdout
    assert "hunter2" not in result.stdout


def test_a_runtime_that_the_engine_lacks_is_named_with_the_way_to_get_it(docker_sandbox: DockerSandbox) -> None:
    result = run_in(docker_sandbox, "print(1)", runtime="runsc-not-there")
    assert result.verdict is Verdict.INFRA_ERROR
    assert result.error == (
        "The container engine has no runtime runsc-not-there; `ops/sandbox/runsc` registers gVisor."
    )


def test_gvisor_under_another_name_starts_nothing(
    docker_sandbox: DockerSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There the supervisor would have the program's user id, and gVisor does not protect it."""
    monkeypatch.setattr(gvisor, "is_gvisor", lambda _: False)
    result = run_in(docker_sandbox, "print('ran')", runtime="runsc")
    assert (result.verdict, result.stdout) == (Verdict.INFRA_ERROR, "")
    assert "call the runtime runsc" in str(result.error)


@pytest.mark.usefixtures("run")
def test_an_engine_whose_default_is_gvisor_is_treated_so(client: docker.DockerClient) -> None:
    assert gvisor.default({"DefaultRuntime": "runsc"}) == "runsc"
    assert gvisor.default({"DefaultRuntime": "runc"}) is None
    sandbox = in_docker(client, runtime="runsc")
    result = run_in(sandbox, "print(1)")
    assert (result.verdict, result.stdout, result.runtime) == (Verdict.OK, "1\n", "runsc")
    assert result.limits_hit == ()
    assert result.unenforced
    refused = run_in(sandbox, "print(1)", network="clawq-any")
    assert (refused.verdict, "no network" in str(refused.error)) == (Verdict.REJECTED, True)
    sandbox.close()
