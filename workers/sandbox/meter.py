"""What a program used, as the kernel counts it.

This file is sent into the sandbox as source: standard library only, Python 3.8 and later, cgroup v1 and v2.
"""

from __future__ import annotations

import contextlib
import os
import resource
from typing import Any

_CGROUP = "/sys/fs/cgroup/"


class Meter:
    """Measures a container by its cgroup; where that cannot be read, by its processes."""

    def __init__(self) -> None:
        self._cpu_before = 0.0
        self._cpu_before = self.cpu_s()

    def breach(self, limits: dict[str, Any]) -> str | None:
        """The limit that the program broke and the kernel does not enforce here: a reason for the end frame."""
        return "cpu_limit" if self.cpu_s() > limits["cpu_s"] else None

    def cpu_s(self) -> float:
        """CPU seconds since this meter was made."""
        nanos = _number("cpuacct/cpuacct.usage") or _number("cpu,cpuacct/cpuacct.usage")
        micros = None if nanos else _number("cpu.stat", "usage_usec")
        used = nanos / 1e9 if nanos else micros / 1e6 if micros else children_cpu_s() + living_cpu_s()
        return used - self._cpu_before

    def peak_bytes(self) -> int:
        """The most memory used at once."""
        return _number("memory/memory.max_usage_in_bytes") or _number("memory.peak") or children_peak_bytes()

    def oom_killed(self) -> bool:
        """Whether the kernel killed a process here for want of memory."""
        return bool(_number("memory/memory.oom_control", "oom_kill") or _number("memory.events", "oom_kill"))


def children_cpu_s() -> float:
    """CPU seconds of the processes that were reaped."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def living_cpu_s() -> float:
    """CPU seconds of all processes but PID 1, with those that they reaped."""
    ticks = 0
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError, ValueError), open(f"/proc/{pid}/stat") as file:
            # Behind the name, which may hold anything: utime, stime and the same of reaped children.
            fields = file.read().rpartition(")")[2].split()
            ticks += sum(map(int, fields[11:15])) if pid != "1" else 0
    return ticks / os.sysconf("SC_CLK_TCK")


def children_peak_bytes() -> int:
    """Memory of the largest process that was reaped."""
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024


def _number(name: str, key: str | None = None) -> int | None:
    """The number in a cgroup file, or the one after `key`; None if there is none."""
    try:
        with open(_CGROUP + name) as file:
            words = file.read().split()
        return int(words[words.index(key) + 1] if key else words[0])
    except (OSError, ValueError, IndexError):
        return None
