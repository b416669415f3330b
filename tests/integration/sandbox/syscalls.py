"""Runs inside a sandbox: tries system calls by number and prints how each was answered. x86-64."""

import ctypes
import errno
import os
import socket

libc = ctypes.CDLL(None, use_errno=True)
NEWUSER, SIGCHLD, PARENT = 0x10000000, 17, os.getppid()
buffer = ctypes.create_string_buffer(256)
cpus = ctypes.c_long(3)

CALLS = {
    "getpid": (39,),
    "prlimit_self": (302, 0, 7, 0, 0),
    "io_uring_setup": (425, 1, buffer),
    "io_uring_enter": (426, -1, 0, 0, 0, 0),
    "io_uring_register": (427, -1, 0, 0, 0),
    "ptrace_traceme": (101, 0, 0, 0, 0),
    "process_vm_readv": (310, PARENT, 0, 0, 0, 0, 0),
    "process_vm_writev": (311, PARENT, 0, 0, 0, 0, 0),
    "keyctl": (250, 0, -3, 1),
    "add_key": (248, 0, 0, 0, 0, 0),
    "request_key": (249, 0, 0, 0, 0),
    "mount": (165, 0, 0, 0, 0, 0),
    "umount2": (166, b"/", 0),
    "fsopen": (430, b"tmpfs", 0),
    "open_tree": (428, -100, b"/", 1),
    "move_mount": (429, -1, b"", -1, b"", 0),
    "pivot_root": (155, b"/", b"/"),
    "chroot": (161, b"/"),
    "unshare": (272, NEWUSER),
    "setns": (308, 0, 0),
    "clone_newuser": (56, NEWUSER | SIGCHLD, 0, 0, 0, 0),
    "clone3": (435, 0, 0),
    "bpf": (321, 0, 0, 0),
    "perf_event_open": (298, buffer, 0, -1, -1, 0),
    "userfaultfd": (323, 0),
    "kexec_load": (246, 0, 0, 0, 0),
    "kexec_file_load": (320, 0, 0, 0, 0, 0),
    "init_module": (175, 0, 0, 0),
    "finit_module": (313, -1, 0, 0),
    "delete_module": (176, 0, 0),
    "prlimit_supervisor": (302, PARENT, 7, 0, 0),
    "prlimit_init": (302, 1, 7, 0, 0),
    "sched_setaffinity": (203, 0, 8, ctypes.byref(cpus)),
    "sched_setscheduler": (144, 0, 0, 0),
    "sched_setattr": (314, 0, 0, 0),
    "setpriority": (141, 0, 0, 5),
    "name_to_handle_at": (303, -100, b".", 0, 0, 0),
    "open_by_handle_at": (304, -1, 0, 0),
    "kcmp": (312, 1, 1, 0, 0, 0),
    "acct": (163, 0),
    "swapon": (167, 0, 0),
    "reboot": (169, 0, 0, 0, 0),
    "syslog": (103, 3, 0, 0),
    "quotactl": (179, 0, 0, 0, 0),
    "fanotify_init": (300, 0, 0),
    "iopl": (172, 3),
    "personality": (135, 0x40000),
}
for name, (number, *arguments) in CALLS.items():
    ctypes.set_errno(0)
    wide = [ctypes.c_long(value) if isinstance(value, int) else value for value in arguments]
    answer = libc.syscall(number, *wide)
    print(name, "OK" if answer >= 0 else errno.errorcode[ctypes.get_errno()], sep="=")
for name, family, kind in (("vsock", 40, 1), ("packet", 17, 3), ("alg", 38, 5), ("bluetooth", 31, 3), ("xdp", 44, 3)):
    try:
        socket.socket(family, kind)
        print(name, "OK", sep="=")
    except OSError as exc:
        print(name, errno.errorcode[exc.errno], sep="=")
