"""Programs that ask the kernel for what they must not have."""

from __future__ import annotations

import re

from tests.integration.sandbox.battery.program import Outcome, lines, program

#: Files to write to, by how a container answers. What this machine's kernel lacks is answered ENOENT.
_WRITES = {
    "EROFS": (
        *("/proc/sysrq-trigger", "/proc/sys/kernel/core_pattern", "/proc/sys/kernel/hostname"),
        *("/proc/sys/kernel/panic", "/proc/sys/kernel/modprobe", "/proc/sys/vm/drop_caches"),
        *("/proc/sys/vm/overcommit_memory", "/proc/sys/net/ipv4/ip_forward", "/proc/sys/fs/suid_dumpable"),
        *("/proc/irq/default_smp_affinity", "/proc/self/exe", "/sys/kernel/uevent_helper", "/sys/kernel/mm/ksm/run"),
        *("/sys/power/state", "/sys/fs/cgroup/memory/release_agent", "/sys/fs/cgroup/memory/notify_on_release"),
        *("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/pids/pids.max"),
        *("/sys/fs/cgroup/pids/cgroup.procs", "/sys/fs/cgroup/devices/devices.allow", "/etc/ld.so.preload"),
    ),
    "EACCES": (
        *("/proc/1/oom_score_adj", "/proc/1/coredump_filter", "/proc/1/uid_map", "/dev/sda", "/dev/mem", "/dev/kmsg"),
    ),
    "EPERM": ("/proc/1/attr/current",),
}
_READS = {
    "EACCES": (
        *(f"/proc/1/{name}" for name in ("mem", "environ", "maps", "auxv", "syscall", "stack", "io", "exe", "fd/0")),
        *("/proc/1/root/etc/passwd", "/proc/1/cwd/etc/passwd", "/proc/1/map_files", "/proc/1/ns/mnt"),
        *("/proc/kmsg", "/proc/kcore", "/proc/kpagecount", "/etc/shadow"),
    ),
    "ENOENT": ("/sys/kernel/debug/sched", "/var/run/docker.sock", "/dev/vsock", "/dev/kvm", "/dev/fuse"),
}


def _answers(table: dict[str, tuple[str, ...]]) -> re.Pattern[str]:
    found = {path: answer for answer, paths in table.items() for path in paths}
    return re.compile("".join(f"{re.escape(path)} ({answer}|ENOENT)\n" for path, answer in found.items()))


_CALL = """
import ctypes, errno, os
libc = ctypes.CDLL(None, use_errno=True)
def call(name, number, *arguments):
    ctypes.set_errno(0)
    answer = libc[name](*arguments) if number is None else libc.syscall(number, *arguments)
    print(name, "DONE" if answer >= 0 else errno.errorcode[ctypes.get_errno()])
zeros, ones = ctypes.byref((ctypes.c_long * 32)()), ctypes.byref((ctypes.c_long * 32)(*[-1] * 32))
"""
#: Each by the C library's function, or by the system call's number on x86-64.
_CALLS = (
    ("ptrace", None, "16, 1, 0, 0"),
    ("ptrace", None, "0x4206, os.getppid(), 0, 0"),
    ("mount", None, 'b"none", b"/tmp", b"tmpfs", 0, 0'),
    ("umount2", None, 'b"/proc", 2'),
    ("unshare", None, "0x10000000"),
    ("unshare", None, "0x20000"),
    ("setns", None, 'os.open("/proc/self/ns/net", os.O_RDONLY), 0'),
    ("pivot_root", 155, 'b"/", b"/"'),
    ("keyctl", 250, "0, -3, 1"),
    ("add_key", 248, 'b"user", b"x", b"y", 1, -3'),
    ("bpf", 321, "0, 0, 0"),
    ("io_uring_setup", 425, "1, 0"),
    ("userfaultfd", 323, "0"),
    ("perf_event_open", 298, "0, 0, -1, -1, 0"),
    ("chroot", None, 'b"/tmp"'),
    ("setuid", None, "0"),
    ("setgid", None, "0"),
    ("setresuid", None, "0, 0, 0"),
    ("setgroups", None, "1, zeros"),
    ("capset", 126, "ctypes.byref((ctypes.c_uint32 * 2)(0x20080522, 0)), ones"),
    ("prctl", None, "24, 21, 0, 0, 0"),
    ("prctl", None, "47, 2, 21, 0, 0"),
    ("settimeofday", None, "zeros, 0"),
    ("clock_settime", None, "0, zeros"),
    ("adjtimex", None, "ones"),
    ("sethostname", None, 'b"owned", 5'),
    ("setdomainname", None, 'b"owned", 5'),
    ("reboot", None, "0x1234567"),
    ("syslog", 103, "5, 0, 0"),
    ("acct", None, 'b"/tmp/x"'),
    ("swapon", None, 'b"/tmp/x", 0'),
    ("sched_setaffinity", None, "1, 8, ones"),
    ("sched_setaffinity", None, "0, 8, ones"),
    ("sched_setscheduler", None, "1, 0, zeros"),
    ("setpriority", None, "0, 1, 19"),
    ("setpriority", None, "0, 0, -20"),
    ("nice", None, "-5"),
    ("ioprio_set", 251, "1, 1, 0x6000"),
    ("prlimit64", None, "1, 7, zeros, 0"),
    ("personality", None, "0x40000"),
    ("iopl", None, "3"),
    ("vhangup", None, ""),
)

KERNEL = (
    program(
        "writes to the kernel's files",
        f"""
        from attempt import attempt
        for path in {sum(_WRITES.values(), ())!r}: attempt(path, lambda: open(path, "wb", 0).write(b"0"))
        """,
        Outcome(stdout=_answers(_WRITES)),
        process=None,
    ),
    program(
        "reads of what is the supervisor's and the host's",
        f"""
        import os
        from attempt import attempt
        for path in {sum(_READS.values(), ())!r}: attempt(path, lambda: os.read(os.open(path, os.O_NONBLOCK), 1))
        """,
        Outcome(stdout=_answers(_READS)),
        process=None,
    ),
    program(
        "calls that are the administrator's",
        _CALL + "".join(f"call({name!r}, {number}, {arguments})\n" for name, number, arguments in _CALLS),
        Outcome(stdout=lines(*(f"{name} {'ENOSYS' if name == 'io_uring_setup' else 'EPERM'}" for name, *_ in _CALLS))),
        process=None,
    ),
    program(
        "networks of every kind",
        """
        import socket
        from attempt import attempt
        def reach(family, kind, address):
            with socket.socket(family, kind) as s: s.settimeout(3); s.connect(address); s.send(b"x")
        attempt("metadata", lambda: reach(socket.AF_INET, socket.SOCK_STREAM, ("169.254.169.254", 80)))
        attempt("metadata 6", lambda: reach(socket.AF_INET6, socket.SOCK_STREAM, ("fd00:ec2::254", 80)))
        attempt("resolver", lambda: reach(socket.AF_INET, socket.SOCK_DGRAM, ("203.0.113.53", 53)))
        attempt("bridge", lambda: reach(socket.AF_INET, socket.SOCK_STREAM, ("172.17.0.1", 22)))
        attempt("name", lambda: socket.getaddrinfo("example.com", 80))
        attempt("broadcast", lambda: reach(socket.AF_INET, socket.SOCK_DGRAM, ("255.255.255.255", 9)))
        attempt("raw", lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1))
        attempt("packet", lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW))
        attempt("vsock", lambda: reach(socket.AF_VSOCK, socket.SOCK_STREAM, (2, 1024)))
        attempt("alg", lambda: socket.socket(socket.AF_ALG, socket.SOCK_SEQPACKET))
        attempt("uevents", lambda: socket.socket(16, socket.SOCK_RAW, 15).bind((0, 1)))
        attempt("audit", lambda: socket.socket(16, socket.SOCK_RAW, 9))
        attempt("engine", lambda: reach(socket.AF_UNIX, socket.SOCK_STREAM, "/var/run/docker.sock"))
        """,
        Outcome(
            stdout=lines(
                *("metadata ENETUNREACH", "metadata 6 ENETUNREACH", "resolver ENETUNREACH", "bridge ENETUNREACH"),
                *("name gaierror", "broadcast ENETUNREACH", "raw EPERM", "packet EPERM", "vsock EPERM"),
                *("alg EPERM", "uevents EPERM", "audit EPERM", "engine ENOENT"),
            )
        ),
        process=Outcome(
            stdout=lines(
                *("metadata EACCES", "metadata 6 EACCES", "resolver EPERM", "bridge EACCES", "name gaierror"),
                *("broadcast EPERM", "raw EPERM", "packet EAFNOSUPPORT", "vsock EAFNOSUPPORT", "alg EAFNOSUPPORT"),
                *("uevents EAFNOSUPPORT", "audit EAFNOSUPPORT", "engine EACCES"),
            )
        ),
    ),
    program(
        "a core dump among the artifacts",
        """
        import os, resource, signal
        os.chdir("out")
        print(resource.getrlimit(resource.RLIMIT_CORE), flush=True)
        os.kill(os.getpid(), signal.SIGQUIT)
        """,
        Outcome(verdict="signaled", signal=3, stdout="(0, 0)\n"),
    ),
    program(
        "programs that would make it root",
        """
        grep -E '^(NoNewPrivs|CapBnd)' /proc/self/status
        tried() { "$@" </dev/null >/dev/null 2>&1 && echo "$1 did" || echo "$1 did not"; }
        tried su -c id
        tried mount -t tmpfs none /tmp
        tried unshare -Ur id
        tried chown 0:0 main.sh
        tried dd if=/dev/zero of=/usr/bin/id count=1
        cp /bin/sh sh && chmod 4755 sh && ./sh -p -c 'id -u'
        """,
        Outcome(
            stdout=lines(
                *("CapBnd:\t0000000000000000", "NoNewPrivs:\t1"),
                *(f"{tool} did not" for tool in ("su", "mount", "unshare", "chown", "dd")), "65532"
            )
        ),
        process=None,
        language="shell",
    ),
    program(
        "secrets in the environment, the command line and its own memory",
        """
        import os
        secret = b"-".join((b"battery", b"secret"))
        places = [str(os.environ).encode()]
        for name in ("environ", "cmdline"):
            for pid in filter(str.isdigit, os.listdir("/proc")):
                try: places.append(open(f"/proc/{pid}/{name}", "rb").read())
                except OSError: pass
        with open("/proc/self/maps") as maps, open("/proc/self/mem", "rb", 0) as memory:
            for line in maps:
                start, end = (int(part, 16) for part in line.split()[0].split("-"))
                if "rw" not in line or "[v" in line: continue
                memory.seek(start)
                try: places.append(memory.read(end - start))
                except OSError: pass
        print(len(places) > 10, [at for at, place in enumerate(places) if secret + b"-value" in place])
        """,
        Outcome(stdout="True []\n"),
    ),
    program(
        "a file of the host that everybody may write",
        """
        import os
        from attempt import attempt
        path = os.environ["CANARY"]
        os.symlink(path, "link"); os.symlink(path, "out/link")
        attempt("read", lambda: open(path).read())
        attempt("write", lambda: open(path, "r+").write("dead"))
        attempt("link", lambda: open("link", "r+").write("dead"))
        attempt("root", lambda: open("/proc/self/root" + path, "r+").write("dead"))
        attempt("supervisor's root", lambda: open("/proc/1/root" + path, "r+").write("dead"))
        attempt("dots", lambda: open("../" * 20 + path, "r+").write("dead"))
        attempt("unlink", lambda: os.unlink(path))
        attempt("beside", lambda: open(path + "-2", "x"))
        """,
        Outcome(
            stdout=lines(
                *("read ENOENT", "write ENOENT", "link ENOENT", "root ENOENT", "supervisor's root EACCES"),
                *("dots ENOENT", "unlink ENOENT", "beside ENOENT"),
            ),
            left=("link: it is not a regular file",),
        ),
        process=Outcome(
            stdout=lines(
                *("read EACCES", "write EACCES", "link EACCES", "root EACCES", "supervisor's root EACCES"),
                *("dots EACCES", "unlink EACCES", "beside EACCES"),
            ),
            left=("link: it is not a regular file",),
        ),
    ),
)  # fmt: skip
