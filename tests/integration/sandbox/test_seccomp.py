"""The docker sandbox's seccomp profile: every call that is not on its list, and what programs need of the others."""

from __future__ import annotations

import json
import platform
from pathlib import Path
from typing import Any

import pytest

from tests.integration.sandbox.sandboxes import run_in
from tests.integration.sandbox.syscall_numbers import END, NUMBERS
from workers.sandbox import Verdict
from workers.sandbox.docker import DockerSandbox
from workers.sandbox.profile import SECCOMP

PROGRAM = Path(__file__).with_name("every_syscall.py").read_text()
RULES: list[dict[str, Any]] = json.loads(SECCOMP)["syscalls"]
ALLOWED = {name for rule in RULES if rule["action"] == "SCMP_ACT_ALLOW" for name in rule["names"]}
#: Answered as done without being done.
FEIGNED = {"sync", "syncfs"}
#: Asked by no filter: the kernel serves them only to its own trampolines, and knows those by their address.
TRAMPOLINES = {"uprobe", "uretprobe"}
X32 = 0x40000000
NEW = {
    "NEWNS": 0x20000, "NEWCGROUP": 0x2000000, "NEWUTS": 0x4000000, "NEWIPC": 0x8000000, "NEWUSER": 0x10000000,
    "NEWPID": 0x20000000, "NEWNET": 0x40000000,
}  # fmt: skip
#: What only the call's arguments make dangerous. A high bit is one that the kernel ignores and a filter may not.
CLOSED_BY_ARGUMENTS = {
    **{f"clone {name}": (56, flag | 17, 0, 0, 0, 0) for name, flag in NEW.items()},
    "clone NEWUSER, high bit": (56, NEW["NEWUSER"] | 17 | 1 << 32, 0, 0, 0, 0),
    "prlimit64 of PID 1": (302, 1, 7, 0, 0),
    "prlimit64 of the caller by its number": (302, -1, 7, 0, 0),
    **{f"personality {value:#x}": (135, value) for value in (0x40000, 0x400000, 0x8000000, 1 << 32)},
    **{f"socket family {family}": (41, family, 2, 0) for family in range(50) if family not in (1, 2, 10)},
    "socket netlink, high bit": (41, 16 | 1 << 32, 3, 0),
    **{f"socket inet protocol {number}": (41, 2, 1, number) for number in (33, 115, 132, 136, 256, 262)},
    **{f"socket inet type {number}": (41, 2, number, 0) for number in (4, 5, 6, 10)},
    **{f"socket inet6 protocol {number}": (41, 10, 1, number) for number in (33, 115, 132, 136, 262)},
    **{f"socketpair family {family}": (53, family, 1, 0, 0) for family in (2, 16, 30, 40)},
}
OPEN_BY_ARGUMENTS = {
    "clone": (56, 17, 0, 0, 0, 0),
    "prlimit64": (302, 0, 7, 0, 0),
    "personality": (135, 0xFFFFFFFF),
    **{
        f"socket {call}": (41, *call)
        for call in ((1, 1, 0), (1, 5, 0), (2, 1, 6), (2, 2, 17), (10, 1, 0), (2, 0x80801, 0))
    },
    **{name: (NUMBERS[name], 1) for name in FEIGNED},
}

#: None of these may ever be on the list, whatever a kernel would answer to a process without capabilities.
DANGEROUS = """
    acct add_key adjtimex bpf chroot clock_adjtime clock_settime clone3 create_module delete_module fanotify_init
    fanotify_mark finit_module fsconfig fsmount fsopen fspick init_module io_uring_enter io_uring_register
    io_uring_setup ioperm iopl ioprio_set kcmp kexec_file_load kexec_load keyctl lookup_dcookie mbind memfd_secret
    migrate_pages modify_ldt mount mount_setattr move_mount move_pages name_to_handle_at nfsservctl
    open_by_handle_at open_tree open_tree_attr perf_event_open pidfd_getfd pivot_root process_madvise
    process_mrelease process_vm_readv process_vm_writev ptrace quotactl quotactl_fd reboot request_key
    sched_setaffinity sched_setattr sched_setparam sched_setscheduler sethostname setdomainname setns setpriority
    settimeofday swapoff swapon sync syncfs syslog umount2 unshare userfaultfd uselib vhangup
"""

pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="the numbers are those of x86-64")


def ask(sandbox: DockerSandbox, numbers: list[int], calls: dict[str, tuple[int, ...]]) -> dict[str, str]:
    result = run_in(sandbox, f"NUMBERS, CALLS = {numbers!r}, {calls!r}\n{PROGRAM}", wall_s=60)
    assert result.verdict is Verdict.OK, result.stderr
    return dict(line.split("=") for line in result.stdout.splitlines())


def test_every_call_that_is_not_on_the_list_answers_with_an_error_and_does_not_kill(
    docker_sandbox: DockerSandbox,
) -> None:
    """By number, those included that this kernel or this list has never heard of."""
    let_in = {NUMBERS[name] for name in ALLOWED | FEIGNED | TRAMPOLINES if name in NUMBERS}
    closed = [number for number in range(END) if number not in let_in]
    answers = ask(docker_sandbox, closed, CLOSED_BY_ARGUMENTS)
    assert len(answers) == len(closed) + len(CLOSED_BY_ARGUMENTS)
    names = {str(number): name for name, number in NUMBERS.items()}
    wrong = {names.get(call, call): said for call, said in answers.items() if said not in ("EPERM", "ENOSYS")}
    assert wrong == {}


def test_calls_with_ordinary_arguments_are_open(docker_sandbox: DockerSandbox) -> None:
    answers = ask(docker_sandbox, [], OPEN_BY_ARGUMENTS)
    assert {name: said for name, said in answers.items() if said != "OK"} == {}


def test_who_makes_calls_of_another_abi_is_ended(docker_sandbox: DockerSandbox) -> None:
    """x32 has numbers of its own, which a list for x86-64 says nothing about."""
    numbers = [X32 | number for number in (NUMBERS["getpid"], NUMBERS["ptrace"], 512)]
    assert set(ask(docker_sandbox, numbers, {}).values()) == {"SIGSYS"}


def test_nothing_dangerous_is_on_the_list() -> None:
    assert set(DANGEROUS.split()) <= set(NUMBERS)
    assert ALLOWED & set(DANGEROUS.split()) == set()


def test_what_programs_need_is_open(docker_sandbox: DockerSandbox) -> None:
    """What Python, sqlite, git and node do beyond the obvious; each line of it raises if the kernel says no."""
    result = run_in(
        docker_sandbox,
        """
        import array, ctypes, fcntl, mmap, multiprocessing, os, select, signal, socket, sqlite3, subprocess, sys
        import tempfile, threading, time

        def work(n): return n * n

        def main():
            threads = [threading.Thread(target=time.sleep, args=(0.01,)) for _ in range(8)]
            for thread in threads: thread.start()
            for thread in threads: thread.join()
            for method in ("fork", "spawn"):
                with multiprocessing.get_context(method).Pool(2) as pool: assert pool.map(work, [1, 2]) == [1, 4]
            base = sqlite3.connect("data.db")
            base.execute("PRAGMA journal_mode=WAL"); base.execute("create table t (x)"); base.commit()
            subprocess.run(["/bin/sh", "-c", "ls | sort | wc -l; mkfifo f; nice true || true; sync"], check=True)
            os.waitpid(os.posix_spawn("/bin/true", ["true"], {}), 0)
            with tempfile.TemporaryFile() as a, tempfile.TemporaryFile() as b:
                a.write(b"x" * 100000); a.flush(); a.seek(0)
                os.sendfile(b.fileno(), a.fileno(), 0, 1000); os.copy_file_range(a.fileno(), b.fileno(), 1000)
                os.posix_fallocate(b.fileno(), 0, 5000); os.fsync(b.fileno()); os.fdatasync(b.fileno()); os.sync()
                fcntl.flock(a, fcntl.LOCK_EX); fcntl.lockf(b, fcntl.LOCK_EX)
                mmap.mmap(a.fileno(), 4096).madvise(mmap.MADV_WILLNEED)
            os.link("data.db", "hard"); os.symlink("hard", "soft"); os.chmod("hard", 0o600); os.utime("hard")
            os.rename("hard", "other"); os.stat("other"); os.statvfs("."); os.mkdir("d"); os.scandir("d").close()
            os.memfd_create("m"); os.eventfd(0); os.pidfd_open(os.getpid()); os.getrandom(8)
            r, w = os.pipe2(os.O_CLOEXEC)
            poller = select.epoll(); poller.register(r); os.write(w, b"x"); assert poller.poll(1)
            left, right = socket.socketpair()
            left.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [r]))])
            assert right.recvmsg(1, 100)[1]
            server = socket.create_server(("127.0.0.1", 0))
            socket.create_connection(server.getsockname()).close()
            socket.getaddrinfo("127.0.0.1", 80)
            libc = ctypes.CDLL(None)
            assert libc.inotify_init1(0) >= 0 and libc.timerfd_create(1, 0) >= 0 and libc.setsid() >= -1
            signal.setitimer(signal.ITIMER_REAL, 10); signal.setitimer(signal.ITIMER_REAL, 0)
            os.sched_getaffinity(0); os.sched_yield(); os.getpriority(os.PRIO_PROCESS, 0); os.getloadavg()
            print("all of it")

        if __name__ == "__main__":
            main()
        """,
    )
    assert (result.verdict, result.stdout.splitlines()[-1:]) == (Verdict.OK, ["all of it"]), result.stderr


def test_there_is_no_terminal_to_type_into(docker_sandbox: DockerSandbox) -> None:
    """ioctl is open, so TIOCSTI and TIOCLINUX are: on a terminal, if there were one."""
    code = """
    import os
    for path in ("/dev/tty", "/dev/tty0", "/dev/console", "/dev/vcs"):
        try: os.open(path, os.O_RDWR | os.O_NOCTTY); print("opened", path)
        except OSError: print("no")
    print(*(os.isatty(fd) for fd in range(3)))
    """
    assert run_in(docker_sandbox, code).stdout == "no\nno\nno\nno\nFalse False False\n"
