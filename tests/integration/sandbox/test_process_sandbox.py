"""What only the process sandbox promises: an unprivileged user id, nothing left behind, and a machine without root."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import textwrap
import threading
from pathlib import Path
from typing import Any

import pytest

from app.settings import Settings
from tests.integration.sandbox.sandboxes import processes_with, run_in, system_v_objects, unique, until
from workers.sandbox import Verdict, choose, process
from workers.sandbox.process import ProcessSandbox

ROOT = Path(process.__file__).parents[2]


@pytest.fixture
def directory(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Where the work directories of runs are made, to see that none stays."""
    with tempfile.TemporaryDirectory() as path:
        os.chmod(path, 0o755)
        monkeypatch.setattr(tempfile, "tempdir", path)
        yield Path(path)
        monkeypatch.undo()


def test_results_say_what_is_not_enforced(process_sandbox: ProcessSandbox) -> None:
    result = run_in(process_sandbox, "print(1)")
    assert any("memory" in phrase for phrase in result.unenforced)
    assert result.as_json()["unenforced"] == list(result.unenforced)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give each run a user id of its own")
def test_each_run_as_root_has_a_user_id_of_its_own(process_sandbox: ProcessSandbox) -> None:
    code = "import os; print(os.getresuid(), os.getresgid(), os.getgroups())"
    first, second = (run_in(process_sandbox, code).stdout for _ in range(2))
    assert first != second
    for line in (first, second):
        uid = line.split(",")[0][1:]
        assert int(uid) >= 1_000_000_000
        assert line == f"({uid}, {uid}, {uid}) ({uid}, {uid}, {uid}) []\n"


def test_the_work_directory_goes_however_it_was_left(process_sandbox: ProcessSandbox, directory: Path) -> None:
    result = run_in(
        process_sandbox,
        """
        import os
        os.makedirs("a/b/c"); open("a/b/f", "w").close(); os.symlink("/etc", "a/etc"); os.mkfifo("a/fifo")
        for name in ("a/b/c", "a/b", "a"):
            try: os.chmod(name, 0)
            except OSError: pass
        print(os.getcwd())
        """,
    )
    assert result.stdout.startswith(str(directory))
    assert list(directory.iterdir()) == []


#: The namespace that a run gets, if the kernel lets this user have it; without privileges that takes another one.
UNSHARE = """
    import ctypes, os, sys
    sys.exit(ctypes.CDLL(None).unshare(0x08000000 if os.geteuid() == 0 else 0x18000000) != 0)
"""


def may_isolate_ipc(**account: Any) -> bool:
    return (
        subprocess.run(
            [process.find_python() or sys.executable, "-c", textwrap.dedent(UNSHARE)], check=False, **account
        ).returncode
        == 0
    )


def test_no_shared_memory_or_semaphores_stay_on_the_host(process_sandbox: ProcessSandbox) -> None:
    """The sandbox library makes some for each run."""
    if not may_isolate_ipc():
        pytest.skip("the kernel refuses an IPC namespace")
    before = system_v_objects()
    uids = {int(run_in(process_sandbox, "import os; print(os.getuid())").stdout) for _ in range(3)}
    # Others use this machine too.
    assert [thing for thing, uid in system_v_objects().items() if uid in uids and thing not in before] == []


WORKER = """
    import sys, threading
    from workers.sandbox.process import ProcessSandbox
    from workers.sandbox.spec import Callbacks, SandboxSpec
    code = "trap '' TERM HUP; setsid sleep 600 & echo up; sleep 600 & wait"
    spec = SandboxSpec(name="t", language="shell", code=code, args=(sys.argv[1],))
    ProcessSandbox().run(spec, stop=threading.Event(), callbacks=Callbacks(output=lambda *_: print("up", flush=True)))
"""


@pytest.mark.usefixtures("process_sandbox")
def test_the_program_of_a_killed_worker_dies_and_its_files_go(directory: Path) -> None:
    token = unique("orphan")
    environment = {**os.environ, "TMPDIR": str(directory)}
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(WORKER), token], stdout=subprocess.PIPE, cwd=ROOT, env=environment
    ) as worker:
        try:
            assert worker.stdout is not None
            assert worker.stdout.readline() == b"up\n"
            assert len(processes_with(token)) >= 2  # the worker and the shell
            assert len(list(directory.iterdir())) == 1
        finally:
            worker.kill()
    until(lambda: processes_with(token) == [])
    until(lambda: list(directory.iterdir()) == [])


UNPRIVILEGED = """
    import json, sys, threading
    sys.path[:0] = sys.argv[1:3]
    from workers.sandbox.process import ProcessSandbox, probe
    from workers.sandbox.spec import Callbacks, SandboxSpec
    assert probe() is None, probe()
    code = '''
    import os, resource
    def attempt(name, call):
        try: call(); print("DID", name)
        except OSError: print("no", name)
    attempt("chmod", lambda: os.chmod(os.environ["VICTIM"], 0o777))
    attempt("utime", lambda: os.utime(os.environ["VICTIM"]))
    attempt("xattr", lambda: os.setxattr(os.environ["VICTIM"], "user.x", b"x"))
    attempt("read", lambda: open(os.environ["VICTIM"]))
    attempt("prlimit", lambda: resource.prlimit(int(os.environ["WORKER"]), resource.RLIMIT_NOFILE, (64, 64)))
    attempt("kill", lambda: os.kill(int(os.environ["WORKER"]), 0))
    attempt("environ", lambda: open(f"/proc/{os.environ['WORKER']}/environ"))
    print(os.getuid())
    '''
    import os, textwrap
    env = {"VICTIM": sys.argv[3], "WORKER": str(os.getpid())}
    spec = SandboxSpec(name="t", language="python", code=textwrap.dedent(code), env=env)
    result = ProcessSandbox().run(spec, stop=threading.Event(), callbacks=Callbacks())
    print(json.dumps([result.verdict, result.stdout, result.stderr, result.unenforced]))
"""


@pytest.mark.usefixtures("process_sandbox")
@pytest.mark.skipif(os.geteuid() != 0, reason="starts a worker under another user id")
def test_a_worker_without_privileges_keeps_its_files_and_its_processes() -> None:
    """The program then has the worker's own user id, and Landlock alone does not cover modes, times and limits."""
    python = "/usr/bin/python3"
    version = subprocess.run([python, "-c", "import sys; print(sys.version_info >= (3, 11))"], capture_output=True)
    if version.stdout != b"True\n":
        pytest.skip("/usr/bin/python3 is older than 3.11")
    packages = next(path for path in sys.path if path.endswith("site-packages"))
    # Nobody else's, nor that of an earlier run of this test.
    uid = 900_000_000 + os.getpid()
    account: dict[str, Any] = {"user": uid, "group": uid, "extra_groups": []}
    before = system_v_objects()
    with tempfile.TemporaryDirectory() as directory:
        victim = Path(directory, "victim")
        victim.write_text("mine")
        for path in (directory, victim):
            os.chown(path, uid, uid)
        done = subprocess.run(
            [python, "-c", textwrap.dedent(UNPRIVILEGED), str(ROOT), packages, str(victim)],
            **account,
            cwd="/",
            env={"HOME": "/"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        verdict, stdout, stderr, unenforced = json.loads(done.stdout)
        assert (verdict, stderr) == ("ok", "")
        assert stdout.splitlines()[-1] == str(uid)
        assert stdout.count("no ") == 7
        assert oct(victim.stat().st_mode)[-3:] == "644"
    assert any("threads" in phrase for phrase in unenforced)
    if may_isolate_ipc(**account):
        assert [thing for thing, owner in system_v_objects().items() if owner == uid and thing not in before] == []


def test_a_kernel_without_landlock_is_told_in_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sandlock.landlock_abi_version", lambda: 4)
    assert "Landlock ABI 4" in str(process.probe())
    monkeypatch.setattr("sandlock.landlock_abi_version", lambda: -1)
    assert "has no Landlock" in str(process.probe())


@pytest.mark.usefixtures("process_sandbox")
def test_without_an_engine_auto_chooses_process() -> None:
    sandbox = choose(Settings(sandbox="auto", docker_enabled=False), worker="w-1", instance="i-1")
    assert run_in(sandbox, "print(1)").sandbox == "process"


def test_many_at_once_do_not_disturb_each_other(process_sandbox: ProcessSandbox) -> None:
    """One is stopped, one runs out of memory, and the rest do not notice."""
    stop = threading.Event()
    stop.set()
    results: dict[str, Verdict] = {}

    def go(name: str, code: str, **options: Any) -> None:
        results[name] = run_in(process_sandbox, code, **options).verdict

    jobs = [("stopped", "import time; time.sleep(60)", {"stop": stop})]
    jobs += [("oom", "x = []\nwhile True: x.append(b'a' * (1 << 20))", {"memory_mb": 48})]
    jobs += [(f"ok-{n}", "import time; time.sleep(0.3)", {}) for n in range(10)]
    threads = [threading.Thread(target=go, args=job[:2], kwargs=job[2]) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {
        "stopped": Verdict.CANCELLED,
        "oom": Verdict.OOM,
        **{f"ok-{n}": Verdict.OK for n in range(10)},
    }
