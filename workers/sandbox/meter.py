"""What a program used, as the kernel counts it.

This file is sent into the sandbox as source: standard library only, Python 3.8 and later, cgroup v1 and v2.
"""

from __future__ import annotations

import os
import resource
from _signal import SIGXFSZ
from collections.abc import Iterable, Iterator
from typing import Any

from workers.sandbox.lean import suppress

_CGROUP = "/sys/fs/cgroup/"
#: Files that are looked at when a program has ended.
FILES_SEEN = 2000


class Meter:
    """Measures a container by its cgroup; where that cannot be read, by its processes.

    A program is told of most limits by an error and may carry on; which it ran into is seen in the kernel's counters,
    or, where it counts nothing (disk, descriptors), by looking now and then.
    """

    def __init__(self, directories: tuple[str, ...]) -> None:
        """`directories`: what the program may write in."""
        self._directories = directories
        self._hit: set[str] = set()
        self._cpu_before = 0.0
        self._cpu_before = self.cpu_s()

    def breach(self, limits: dict[str, Any]) -> str | None:
        """The limit that the program broke and the kernel does not enforce here: a reason for the end frame."""
        self._look(limits)
        return "cpu_limit" if self.cpu_s() > limits["cpu_s"] else None

    def limits_hit(self, limits: dict[str, Any], number: int | None) -> list[str]:
        """Names of the limits that the program, dead by now of signal `number` or not, ran into."""
        self._look(limits)
        size = limits["file_mb"] << 20
        if number == SIGXFSZ or any(size <= found for found in _sizes(self._directories)):
            self._hit.add("file_mb")
        if self.oom_killed():
            self._hit.add("memory_mb")
        if _number("pids/pids.events", "max") or _number("pids.events", "max"):
            self._hit.add("pids")
        return sorted(self._hit)

    def cpu_s(self) -> float:
        """CPU seconds since this meter was made."""
        nanos = _number("cpuacct/cpuacct.usage") or _number("cpu,cpuacct/cpuacct.usage")
        micros = None if nanos else _number("cpu.stat", "usage_usec")
        used = nanos / 1e9 if nanos else micros / 1e6 if micros else self._counted_cpu_s()
        return used - self._cpu_before

    def peak_bytes(self) -> int:
        """The most memory used at once."""
        return _number("memory/memory.max_usage_in_bytes") or _number("memory.peak") or children_peak_bytes()

    def oom_killed(self) -> bool:
        """Whether the kernel killed a process here for want of memory."""
        return bool(_number("memory/memory.oom_control", "oom_kill") or _number("memory.events", "oom_kill"))

    def _counted_cpu_s(self) -> float:
        """What the program's processes used, ended and living."""
        return children_cpu_s() + sum(usage(pid)[0] for pid in self._processes())

    def _look(self, limits: dict[str, Any]) -> None:
        if any(map(self._is_full, self._directories)):
            self._hit.add("disk_mb")
        if any(_open_files(pid) >= limits["open_files"] for pid in self._processes()):
            self._hit.add("open_files")

    def _is_full(self, directory: str) -> bool:
        with suppress(OSError):
            space = os.statvfs(directory)
            # gVisor counts no files.
            return space.f_bavail == 0 or (space.f_files > 0 and space.f_favail == 0)
        return False

    def _processes(self) -> Iterable[int]:
        """The program's processes: all but the supervisor."""
        return [int(name) for name in os.listdir("/proc") if name.isdigit() and name != "1"]


def children_cpu_s() -> float:
    """CPU seconds of the processes that were reaped."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def children_peak_bytes() -> int:
    """Memory of the largest process that was reaped."""
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024


def usage(pid: int) -> tuple[float, int]:
    """(CPU seconds with reaped children, resident bytes) of a process; zeros once it is gone."""
    with suppress(OSError, ValueError, IndexError):
        with open(f"/proc/{pid}/stat") as file:
            fields = file.read().rpartition(")")[2].split()
        ticks = sum(int(field) for field in fields[11:15])
        return ticks / os.sysconf("SC_CLK_TCK"), int(fields[21]) * os.sysconf("SC_PAGE_SIZE")
    return 0.0, 0


def _number(name: str, key: str | None = None) -> int | None:
    """The number in a cgroup file, or the one after `key`; None if there is none."""
    try:
        with open(_CGROUP + name) as file:
            words = file.read().split()
        return int(words[words.index(key) + 1] if key else words[0])
    except (OSError, ValueError, IndexError):
        return None


def _open_files(pid: int) -> int:
    """Descriptors that a process has open; 0 if it is gone."""
    with suppress(OSError):
        # Its size, since Linux 6.2.
        return os.stat(f"/proc/{pid}/fd").st_size or len(os.listdir(f"/proc/{pid}/fd"))
    return 0


def _sizes(directories: Iterable[str]) -> Iterator[int]:
    """Bytes of the first files below `directories`."""
    names = ((base, name) for directory in directories for base, _, names in os.walk(directory) for name in names)
    for _, (base, name) in zip(range(FILES_SEEN), names):  # noqa: B905 - Python 3.8
        with suppress(OSError):
            yield os.lstat(os.path.join(base, name)).st_size
