"""The processes below one, wherever their parents went: a subreaper keeps them together.

This file is run as source by the guard of a confined program: standard library only.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import time

PR_SET_CHILD_SUBREAPER = 36


def become_subreaper() -> None:
    """Orphans below this process become its children, so that none escapes. Raises OSError if the kernel refuses."""
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")
    if not os.path.exists(f"/proc/self/task/{os.getpid()}/children"):
        raise OSError("this kernel does not list children in /proc (CONFIG_PROC_CHILDREN)")


def kill_descendants() -> None:
    """Kill and reap every process below this one, however it was forked."""
    while True:
        for pid in descendants(os.getpid()):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            # A subreaper without children has no descendants either: orphans would have become its children.
            return
        time.sleep(0.001)


def descendants(pid: int) -> list[int]:
    """Process ids below `pid`."""
    found: list[int] = []
    queue = [pid]
    while queue:
        below = children(queue.pop())
        found += below
        queue += below
    return found


def children(pid: int) -> list[int]:
    """Process ids whose parent is `pid`."""
    directory = f"/proc/{pid}/task"
    found = []
    with contextlib.suppress(OSError):
        for thread in os.listdir(directory):
            with contextlib.suppress(FileNotFoundError), open(f"{directory}/{thread}/children") as file:
                found += [int(word) for word in file.read().split()]
    return found
