"""What both sandboxes promise: verdicts, streams, limits, files. One run carries several probes where it can."""

from __future__ import annotations

import json
import threading
import time
from contextlib import closing
from typing import Any

import pytest

from tests.integration.sandbox.sandboxes import Heard, Run, run_in
from workers.sandbox import Sandbox, Verdict


def test_a_good_program(run: Run, sandbox: Sandbox) -> None:
    """Arguments, environment, files, directories, streams and usage, in one run."""
    heard = Heard()
    result = run(
        """
        import json, os, sys
        seen = {
            "argv": sys.argv[1:], "env": dict(os.environ), "cwd_is_home": os.getcwd() == os.environ["HOME"],
            "file": open("in/data.bin", "rb").read().hex(), "entries": sorted(os.listdir(".")),
            "uid": os.getuid(), "stdin": sys.stdin.read(),
        }
        print(json.dumps(seen))
        print("to stderr", file=sys.stderr)
        """,
        args=("a b", "ü"),
        env={"COLOUR": "blue"},
        files={"in/data.bin": bytes(range(256))},
        stdin="hello",
        heard=heard,
    )
    assert (result.verdict, result.exit_code, result.signal, result.error) == (Verdict.OK, 0, None, None)
    seen = json.loads(result.stdout)
    assert seen["argv"] == ["a b", "ü"]
    assert seen["env"]["COLOUR"] == "blue"
    assert seen["env"]["CLAWQ_PROGRESS_FD"] == "3"
    assert seen["cwd_is_home"]
    assert seen["file"] == bytes(range(256)).hex()
    assert seen["entries"] == ["in", "main.py", "out"]
    assert seen["uid"] >= 1000
    assert seen["stdin"] == "hello"
    assert result.stderr == "to stderr\n"
    assert "".join(text for stream, text in heard.output if stream == "stdout") == result.stdout
    assert len(heard.started) == 1
    assert result.wall_ms is not None
    assert result.wall_ms > 0
    assert result.cpu_ms is not None
    assert result.peak_memory_bytes is not None
    assert result.peak_memory_bytes > 1 << 20
    assert result.sandbox == sandbox.name
    assert not result.truncated
    assert not result.lossy


@pytest.mark.parametrize("code", [1, 124, 137, 255])
def test_exit_codes_are_just_exit_codes(run: Run, code: int) -> None:
    result = run(f"import sys; print('bye'); sys.exit({code})")
    assert (result.verdict, result.exit_code, result.signal) == (Verdict.NONZERO_EXIT, code, None)
    assert result.stdout == "bye\n"


@pytest.mark.parametrize("number", [9, 15])
def test_a_signal(run: Run, number: int) -> None:
    result = run(f"import os; os.kill(os.getpid(), {number})")
    assert (result.verdict, result.exit_code, result.signal) == (Verdict.SIGNALED, None, number)


def test_the_wall_clock_ends_a_sleeper_and_keeps_what_it_said(run: Run) -> None:
    result = run("import time; print('so far', flush=True); time.sleep(60)", wall_s=0.5)
    assert (result.verdict, result.stdout) == (Verdict.TIMEOUT, "so far\n")
    assert result.wall_ms is not None
    assert result.wall_ms < 10_000


def test_cpu_is_counted_over_all_processes(run: Run) -> None:
    """Two spinning children: neither is over the limit when both together are."""
    result = run(
        """
        import os
        for _ in range(2):
            if os.fork() == 0:
                while True: pass
        os.wait()
        """,
        cpu_s=0.8,
    )
    assert result.verdict is Verdict.CPU_LIMIT


def test_memory_that_is_used_up_is_oom(run: Run) -> None:
    result = run("x = []\nwhile True: x.append(b'a' * (1 << 20))", memory_mb=64)
    assert result.verdict is Verdict.OOM
    assert "64 MiB" in str(result.error)


def test_a_flood_is_cut_off_and_its_head_and_tail_are_kept(run: Run) -> None:
    result = run("print('first')\nwhile True: print('y' * 1000)", output_kb=8)
    assert result.verdict is Verdict.OUTPUT_LIMIT
    assert result.truncated
    assert result.stdout.startswith("first\n")
    assert "bytes dropped" in result.stdout
    assert len(result.stdout) < 9 * 1024


def test_a_stop_kills_at_once(run: Run) -> None:
    stop, heard = threading.Event(), Heard()
    stopped_at: list[float] = []

    def stop_when_it_runs() -> None:
        heard.spoke.wait(20)
        stopped_at.append(time.monotonic())
        stop.set()

    threading.Thread(target=stop_when_it_runs).start()
    result = run(
        """
        import signal, time
        for number in (2, 15): signal.signal(number, lambda *_: None)
        print("up", flush=True)
        time.sleep(60)
        """,
        stop=stop,
        heard=heard,
    )
    assert (result.verdict, result.stdout) == (Verdict.CANCELLED, "up\n")
    assert time.monotonic() - stopped_at[0] < 3


def test_a_stop_before_the_start_runs_nothing(run: Run) -> None:
    stop = threading.Event()
    stop.set()
    result = run("print('ran')", stop=stop)
    assert (result.verdict, result.stdout) == (Verdict.CANCELLED, "")


def test_a_bad_spec_is_rejected(run: Run) -> None:
    assert run("x", files={"../x": b""}).verdict is Verdict.REJECTED


def test_argv_and_shell(run: Run) -> None:
    result = run(argv=("/bin/sh", "-c", 'echo "$0" "$1"; exit 3'), args=("zero", "one"))
    assert (result.verdict, result.exit_code, result.stdout) == (Verdict.NONZERO_EXIT, 3, "zero one\n")
    result = run('read line; echo "$1 $line"; ls main.sh; kill -SEGV $$', language="shell", args=("a",), stdin="b\n")
    assert (result.verdict, result.signal, result.stdout) == (Verdict.SIGNALED, 11, "a b\nmain.sh\n")


def test_a_command_that_is_not_there_is_the_programs_failure(run: Run) -> None:
    result = run(argv=("/no/such/thing",))
    assert (result.verdict, result.exit_code) == (Verdict.NONZERO_EXIT, 127)
    assert "/no/such/thing" in result.stderr


def test_a_megabyte_goes_in_and_comes_out_again(run: Run) -> None:
    text = "0123456789abcde\n" * 65536
    result = run("import sys; sys.stdout.write(sys.stdin.read())", stdin=text, output_kb=2048)
    assert result.verdict is Verdict.OK
    assert result.stdout == text


def test_a_program_that_does_not_read_its_stdin_is_not_held_up(run: Run) -> None:
    assert run("print('done')", stdin="x" * 1_000_000).verdict is Verdict.OK


def test_bytes_that_are_not_text(run: Run) -> None:
    result = run(r"import os; os.write(1, b'a\0b\xffc'); os.write(2, b'\xe2\x82'); os.write(2, b'\xac')")
    assert (result.stdout, result.stderr) == ("a\ufffdb\ufffdc", "€")
    assert result.lossy


def test_progress_is_heard_and_nonsense_on_its_pipe_is_not(run: Run) -> None:
    heard = Heard()
    run(
        r"""
        import os, time
        fd = int(os.environ["CLAWQ_PROGRESS_FD"])
        os.write(fd, b'nonsense\n{"progress": 400}\n' + b'x' * 5000 + b'{"progress": 66}\n')
        os.write(fd, b'{"progress": 20, "note": "a\\u0000"}\n')
        time.sleep(0.3)
        os.write(fd, b'{"progress": 100}\n{"progress": 3')
        """,
        heard=heard,
    )
    assert heard.progress == [(20, "a\ufffd"), (100, None)]


def test_the_progress_pipe_is_no_way_to_hold_the_sandbox_up(run: Run) -> None:
    """A torrent of reports becomes a few; a program that closes all it has still ends by its own code."""
    heard = Heard()
    result = run(
        r"""
        import os
        for _ in range(2000): os.write(3, b'{"progress": 1}\n' * 100)
        os.closerange(0, 100)
        os._exit(5)
        """,
        heard=heard,
    )
    assert (result.verdict, result.exit_code) == (Verdict.NONZERO_EXIT, 5)
    assert 1 <= len(heard.progress) < 500


def test_files_that_do_not_fit_are_rejected_before_anything_runs(docker_sandbox: Sandbox) -> None:
    result = run_in(docker_sandbox, "print('ran')", files={"big": bytes(3 << 20)}, disk_mb=2)
    assert (result.verdict, result.stdout) == (Verdict.REJECTED, "")


def test_a_callback_that_fails_ends_the_run_and_is_heard(run: Run) -> None:
    class Broken(Heard):
        def _on_output(self, stream: str, text: str) -> None:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run("import time; print('x', flush=True); time.sleep(60)", heard=Broken())


def test_what_python_programs_do(run: Run) -> None:
    """Threads, subprocesses, pipes, temporary files, sockets to oneself, a wall clock."""
    result = run(
        """
        import asyncio, concurrent.futures, subprocess, sys, tempfile, time
        with concurrent.futures.ThreadPoolExecutor(4) as pool: print(sum(pool.map(abs, range(-9, 0))))
        print(subprocess.run([sys.executable, "-c", "print(7)"], capture_output=True, text=True).stdout.strip())
        with tempfile.TemporaryFile() as file: print(file.write(b"1234"))
        async def main(): return (await asyncio.gather(asyncio.sleep(0.01, "a"), asyncio.sleep(0.01, "b")))
        print(*asyncio.run(main()))
        print("err", file=open("/dev/stderr", "w"))
        """
    )
    assert (result.verdict, result.stdout, result.stderr) == (Verdict.OK, "45\n7\n4\na b\n", "err\n")


def test_multiprocessing_and_loopback_work_in_a_container(docker_sandbox: Sandbox) -> None:
    code = """
    import multiprocessing, socket, threading
    if __name__ == "__main__":
        with multiprocessing.Pool(2) as pool: print(pool.map(abs, [-1, -2]))
        server = socket.create_server(("127.0.0.1", 0))
        client = socket.create_connection(server.getsockname())
        server.accept()[0].sendall(b"hi")
        print(client.recv(2))
    """
    result = run_in(docker_sandbox, code)
    assert (result.verdict, result.stdout) == (Verdict.OK, "[1, 2]\nb'hi'\n")


def test_many_at_once(run: Run) -> None:
    results: list[Any] = []
    threads = [threading.Thread(target=lambda n=n: results.append((n, run(f"print({n})").stdout))) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == [(n, f"{n}\n") for n in range(8)]


def test_what_is_left_in_out_comes_back(run: Run) -> None:
    result = run(
        r"""
        import os
        os.makedirs("out/plots/deep")
        open("out/a.txt", "w").write("hello")
        open("out/plots/deep/ü.bin", "wb").write(bytes(range(256)) * 4096)
        open("out/unreadable", "w").write("x"); os.chmod("out/unreadable", 0); os.chmod("out/plots", 0)
        os.symlink("/etc/passwd", "out/link"); os.mkfifo("out/pipe"); open("beside", "w").write("no")
        open("out/a\nb", "w").write("no")
        """
    )
    # Where the worker is not root the process sandbox refuses to change modes and to make pipes.
    try:
        assert result.verdict is Verdict.OK, result.stderr
        found = {artifact.name: artifact.content.read() for artifact in result.artifacts}
        assert found == {"a.txt": b"hello", "plots/deep/ü.bin": bytes(range(256)) * 4096, "unreadable": b"x"}
        assert result.as_json()["artifacts"][0] == {"name": "a.txt", "size": 5}
        assert set(result.artifacts_left) == {
            "link: it is not a regular file",
            "pipe: it is not a regular file",
            "a\\nb: its name has control characters",
        }
    finally:
        result.close()


def test_a_program_that_fails_or_is_ended_still_hands_over_its_artifacts(run: Run) -> None:
    result = run("open('out/a', 'w').write('so far'); import time; time.sleep(60)", wall_s=1)
    with closing(result):
        assert (result.verdict, [a.content.read() for a in result.artifacts]) == (Verdict.TIMEOUT, [b"so far"])
    assert result.limits_hit == ("wall_s",)


def test_the_size_of_a_file_is_limited_and_that_is_said(run: Run) -> None:
    result = run('head -c 3000000 /dev/zero > big; echo "not reached"', language="shell", file_mb=1)
    assert result.limits_hit == ("file_mb",)
    assert "not reached" in result.stdout or result.verdict is Verdict.SIGNALED


def test_open_files_are_limited_and_that_is_said(run: Run) -> None:
    result = run(
        """
        import time
        files = []
        try:
            while True: files.append(open("/dev/null"))
        except OSError as exc: print(exc.strerror, len(files) < 64)
        time.sleep(0.3)
        """,
        open_files=64,
    )
    assert (result.verdict, result.stdout) == (Verdict.OK, "Too many open files True\n")
    assert result.limits_hit == ("open_files",)
