"""Where the time goes: CPU seconds of every process that has a part in a measurement."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import suppress

import psutil


def measured(processes: Mapping[str, int], action: Callable[[], object]) -> tuple[float, dict[str, float]]:
    """Run `action`.

    Args:
        processes: pid of each process by name; its children count as part of it.
        action: what is measured.

    Returns:
        Seconds that passed, and CPU seconds by name; `client` is this process.
    """
    before = {name: _cpu_s(pid) for name, pid in processes.items()}
    began, client = time.perf_counter(), time.process_time()
    action()
    seconds, client = time.perf_counter() - began, time.process_time() - client
    spent = {name: _cpu_s(pid) - before[name] for name, pid in processes.items()}
    return seconds, {"client": client, **spent}


def _cpu_s(pid: int) -> float:
    process = psutil.Process(pid)
    times = process.cpu_times()
    # A server's own children that have ended count too: Postgres has a process for each connection.
    total = float(times.children_user + times.children_system)
    for each in (process, *process.children(recursive=True)):
        # One that goes while we look is counted with those that have ended, the next time.
        with suppress(psutil.NoSuchProcess):
            total += sum(each.cpu_times()[:2])
    return total
