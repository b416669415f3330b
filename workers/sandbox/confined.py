"""Runs one program confined by sandlock (Landlock and seccomp), under the same supervision as in a container.

This file is run as source in a process of its own, so that nothing here can take a worker down:

    worker ── guard ── supervisor ── program        the program's Landlock domain ends at the supervisor
              kills    speaks frames,
              what is  hosts sandlock,
              left     unprivileged if we are root

A program can neither signal nor read its supervisor: Landlock scopes both to its own domain. With the user id that
both have it can still set the supervisor's resource limits, and so make it fail; the guard then kills them all.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import select
import shutil
import signal
import sys
import time
from collections.abc import Iterable
from typing import Any, NoReturn

from workers.sandbox.collect import Collection
from workers.sandbox.descendants import become_subreaper, children, descendants, kill_descendants
from workers.sandbox.frames import STARTED, Unpacker
from workers.sandbox.meter import Meter, children_cpu_s, children_peak_bytes, usage
from workers.sandbox.program import (
    PROGRESS_FD,
    Program,
    Refused,
    command,
    environment,
    set_dumpable,
    write_files,
)
from workers.sandbox.supervisor import Supervision, receive_job, refuse, send

#: A run as root gets the user id BASE_UID + its process id: no two runs share one, and nothing on the host has it.
BASE_UID = 1_000_000_000
#: What the supervisor and sandlock themselves may need.
OPEN_FILES = 512
READABLE = (
    "/usr",
    "/lib",
    "/lib64",
    "/bin",
    "/etc/ld.so.cache",
    "/etc/alternatives",
    "/etc/localtime",
    "/etc/ssl/openssl.cnf",
    "/dev/urandom",
    "/dev/zero",
    "/proc",
)
#: Denied on top of what sandlock denies by itself: other processes' scheduling, queues that outlive a run, and
#: memory that no process is seen to use.
DENIED = (
    *("sched_setaffinity", "sched_setscheduler", "sched_setattr", "sched_setparam", "setpriority", "ioprio_set"),
    *("mq_open", "mq_unlink", "memfd_create", "memfd_secret"),
)
#: Landlock does not cover these: under the worker's own user id they would reach its files and its processes.
DENIED_TO_OWNER = (
    *("chmod", "fchmodat", "fchmodat2", "chown", "lchown", "fchownat", "setxattr", "lsetxattr", "removexattr"),
    *("lremovexattr", "utime", "utimes", "futimesat", "utimensat", "prlimit64"),
)
#: Threads that sandlock itself runs in the supervisor, which has the program's user id.
OWN_THREADS = 16
#: sandlock bounds what is mapped, thread stacks included, which is a multiple of what is used.
MAPPED_FACTOR = 4
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
PF_EXITING = 0x4
#: Seconds between looks at the work directory's size.
DISK_LOOK_S = 0.5


class ConfinedProgram(Program):
    """A program under sandlock, which reaps it for us."""

    def __init__(self, process: Any, progress: int) -> None:
        super().__init__(
            process.pid, process.stdin.fileno(), process.stdout.fileno(), process.stderr.fileno(), progress
        )
        self._process = process
        # Not its state in /proc: a group whose first thread left looks dead while the others run on.
        self._pidfd = os.pidfd_open(process.pid)

    def poll(self) -> tuple[int | None, int | None] | None:
        # Orphans are children of ours, and count against the program's pids until they are reaped.
        for pid in set(children(os.getpid())) - {self.pid}:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
        if not select.select([self._pidfd], [], [], 0)[0]:
            return None
        result = self._process.wait()
        if int(result.reason) == 0:
            return result.exit_code, None
        return None, result.signal if result.signal > 0 else signal.SIGKILL

    def kill_all(self) -> None:
        kill_descendants()


class TreeMeter(Meter):
    """Adds up the processes below this one: there is no cgroup of our own to ask."""

    def __init__(self, directories: tuple[str, ...]) -> None:
        super().__init__(directories)
        self._peak = 0
        self._next_disk_look = 0.0
        self._over_memory = False

    def breach(self, limits: dict[str, Any]) -> str | None:
        self._look(limits)
        cpu_s, resident = children_cpu_s(), 0
        for pid in descendants(os.getpid()):
            cpu, memory = usage(pid)
            cpu_s += cpu
            resident += memory
        self._peak = max(self._peak, resident)
        if cpu_s > limits["cpu_s"]:
            return "cpu_limit"
        if resident > limits["memory_mb"] << 20:
            self._over_memory = True
            return "oom"
        return "disk" if self._disk_full(limits["disk_mb"] << 20) else None

    def cpu_s(self) -> float:
        return children_cpu_s()

    def peak_bytes(self) -> int:
        return max(self._peak, children_peak_bytes())

    def oom_killed(self) -> bool:
        return self._over_memory

    def limits_hit(self, limits: dict[str, Any], number: int | None) -> list[str]:
        # A container's cgroup, if we are in one, is not this run's.
        return [name for name in super().limits_hit(limits, number) if name != "pids"]

    def _is_full(self, directory: str) -> bool:
        # Of a file system that the host shares with everybody.
        return False

    def _processes(self) -> Iterable[int]:
        return descendants(os.getpid())

    def _disk_full(self, limit: int) -> bool:
        now = time.monotonic()
        if now < self._next_disk_look:
            return False
        self._next_disk_look = now + DISK_LOOK_S
        if sum(map(_size, self._directories)) <= limit:
            return False
        self._hit.add("disk_mb")
        return True


def launch(job: dict[str, Any], root: str) -> ConfinedProgram:
    """Start the program of the job under sandlock, with `root`/workspace and `root`/tmp to write in."""
    import sandlock

    workspace, temporary, pipes = _directories(root)
    pipe = os.path.join(pipes, "progress")
    os.mkfifo(pipe)
    progress = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    _bound(job["limits"])
    # Python ignores it, and what is ignored stays so in the program.
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    sandbox = sandlock.Sandbox(
        fs_readable=[path for path in (*READABLE, *job["readable"]) if os.path.exists(path)],
        fs_writable=[workspace, temporary, pipes, "/dev/null"],
        cwd=workspace,
        clean_env=True,
        env={"TMPDIR": temporary, **environment(job, workspace)},
        max_processes=job["limits"]["pids"],
        max_memory=(job["limits"]["memory_mb"] << 20) * MAPPED_FACTOR,
        extra_deny_syscalls=DENIED if os.getuid() >= BASE_UID else (*DENIED, *DENIED_TO_OWNER),
    )
    # sandlock closes every descriptor above 2, so the program gets its progress pipe by name.
    # Under the worker's own user id limits cannot be set in there (DENIED_TO_OWNER), and those of _limit() stay.
    limit = f"{{ ulimit -n {job['limits']['open_files']} 2>/dev/null || :; }}"
    opener = ["/bin/sh", "-c", f'exec {PROGRESS_FD}>"$0" && {limit} && exec "$@"', pipe]
    piped = sandlock.StdioMode.PIPED
    argv = [*opener, *command(job, workspace, job["python"])]
    return ConfinedProgram(sandbox.popen(argv, stdin=piped, stdout=piped, stderr=piped), progress)


def _directories(root: str) -> tuple[str, str, str]:
    """What the program may write in: its workspace, its temporary directory, the one of its progress pipe."""
    return os.path.join(root, "workspace"), os.path.join(root, "tmp"), os.path.join(root, "pipe")


def _bound(limits: dict[str, Any]) -> None:
    """Bounds that the program inherits; the supervisor stays far below them."""
    memory, largest = limits["memory_mb"] << 20, min(limits["file_mb"], limits["disk_mb"]) << 20
    bounds = [
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, largest),
        (resource.RLIMIT_NOFILE, max(limits["open_files"], OPEN_FILES)),
        # So that one huge allocation fails at once; not so low that sandlock's own threads would.
        (resource.RLIMIT_DATA, max(2 * memory, 256 << 20)),
    ]
    if os.getuid() >= BASE_UID:
        # Processes and threads of this user id, which is this run's alone.
        bounds.append((resource.RLIMIT_NPROC, limits["pids"] + OWN_THREADS))
    for which, value in bounds:
        _, hard = resource.getrlimit(which)
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(which, (value, value))


def isolate_ipc() -> None:
    """Get System V IPC of our own, which ends with the last process in it: sandlock leaves some behind at each run.

    Raises:
        OSError: the kernel refuses.
    """
    uid, gid = os.geteuid(), os.getegid()
    # An unprivileged process may do that only in a user namespace of its own.
    flags = CLONE_NEWIPC if uid == 0 else CLONE_NEWIPC | CLONE_NEWUSER
    if ctypes.CDLL(None, use_errno=True).unshare(flags) != 0:
        raise OSError(ctypes.get_errno(), "unshare(CLONE_NEWIPC)")
    if uid != 0:
        for name, text in (("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"), ("gid_map", f"{gid} {gid} 1")):
            with open(f"/proc/self/{name}", "w") as file:
                file.write(text)


def drop_privileges(root: str) -> None:
    """As root: give `root` and this process to a user id that is this run's alone."""
    uid = BASE_UID + os.getpid()
    for path in (root, *(os.path.join(root, name) for name in os.listdir(root))):
        os.chown(path, uid, uid)
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)
    # Or sandlock could not read its own /proc files. The program is kept out by Landlock.
    set_dumpable(True)


def supervise(root: str) -> None:
    """Receive a job, run it confined in directories under `root`, report."""
    become_subreaper()
    inbox = Unpacker()
    job = receive_job(inbox)
    # Before the drop: what runs us may lie where an unprivileged user cannot read.
    import json  # noqa: F401
    import unicodedata  # noqa: F401

    import sandlock  # noqa: F401

    directories = _directories(root)
    for directory in directories:
        os.mkdir(directory, 0o700)
    if os.getuid() == 0:
        drop_privileges(root)
    try:
        write_files(job, directories[0])
    except Refused as exc:
        refuse(str(exc))
        return
    program = launch(job, root)
    send(STARTED)
    Supervision(job, program, TreeMeter(directories), inbox).run()
    Collection(job["artifacts"], send).run(directories[0])


def main() -> NoReturn:
    """The guard: forks the supervisor, and whatever happens to that or to the worker, leaves nothing behind."""
    root, worker = sys.argv[1], os.getppid()
    become_subreaper()
    # Where it is refused the host keeps what sandlock leaves, as it would without us.
    with contextlib.suppress(OSError):
        isolate_ipc()
    pid = os.fork()
    if pid == 0:
        supervise(root)
        os._exit(0)
    # The channel is the supervisor's alone, so that its death is heard at the other end.
    os.close(0)
    os.close(1)
    os.waitpid(pid, 0)
    kill_descendants()
    if os.getppid() != worker or _is_leaving(worker):
        # Nobody else will do it.
        shutil.rmtree(root, ignore_errors=True)
    os._exit(0)


def _is_leaving(pid: int) -> bool:
    """Whether a process ends: its descriptors are closed a moment before its children are given away."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return bool(int(file.read().rpartition(")")[2].split()[6]) & PF_EXITING)
    except OSError:
        return True


def _size(directory: str) -> int:
    """Bytes of the files below `directory`, as far as the program lets us look."""
    total = 0
    for base, _, names in os.walk(directory):
        for name in names:
            with contextlib.suppress(OSError):
                total += os.lstat(os.path.join(base, name)).st_blocks * 512
    return total
