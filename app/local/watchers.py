"""Processes under circus: started, kept alive with growing pauses, stopped with time to finish.

Circus' watchers do the work; its arbiter is left out, for it adds a control socket, takes the signals and stops
everything at once, while a stack is started and stopped in order.
"""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import psutil
from circus.stream import Redirector
from circus.watcher import Watcher

from app.errors import SettingsError
from app.local.logfiles import LogFile
from app.local.procfile import Line
from app.local.record import ENGINE_GRACE_S, RUN_VARIABLE, Member, State
from app.local.servers import Server

#: Pause before the next start of a process that keeps ending, seconds.
_PAUSES_S = (0.0, 1.0, 2.0, 5.0, 10.0, 30.0)

#: A process that lived this long starts again without a pause, seconds.
_STEADY_S = 60.0


class _Watcher(Watcher):
    @property
    def _redirector_class(self) -> Any:
        # Circus reads 1 KiB a turn, which a chatty process outruns.
        return partial(Redirector, buffer=1 << 16)


class Watched:
    """One process of the stack. Made inside the event loop that is to run it.

    Attributes:
        name: unique in the stack, and the process' role.
        log: where its output goes.
        exits: how often it ended without being asked to.
        required: whether a stack does not start without it.
    """

    def __init__(
        self,
        name: str,
        argv: tuple[str, ...],
        cwd: Path,
        env: Mapping[str, str],
        log: Path,
        grace_s: float,
        **extra: Any,
    ) -> None:
        output = {"stream": LogFile(log)}
        self.name = name
        self.log = log
        self.exits = 0
        self.required = True
        self._wanted = False
        self._started = 0.0
        self._next_start: float | None = None
        self._streak = 0
        self._watcher = _Watcher(
            name,
            shlex.quote(argv[0]),
            args=list(argv[1:]),
            working_dir=str(cwd),
            env=dict(env),
            graceful_timeout=grace_s,
            stdout_stream=output,
            stderr_stream=output,
            # A worker ends its own children; a signal to them would fail the tasks that it is finishing.
            stop_children=False,
            singleton=True,
            max_retry=1,
            **extra,
        )

    @classmethod
    def server(cls, server: Server, log: Path, run: str) -> Watched:
        """A database server."""
        account = {"uid": server.account.uid, "gid": server.account.gid}
        env = {**server.env, RUN_VARIABLE: run}
        made = cls(
            server.name, server.argv, server.cwd, env, log, ENGINE_GRACE_S, stop_signal=server.stop_signal, **account
        )
        made.required = server.required
        return made

    @classmethod
    def line(cls, line: Line, env: Mapping[str, str], cwd: Path, log: Path, grace_s: float) -> Watched:
        """A line of the Procfile.

        Raises:
            SettingsError: there is no such program.
        """
        argv = tuple(line.argv(env))
        if shutil.which(argv[0], path=env.get("PATH")) is None:
            raise SettingsError(f"Procfile, {line.name}: there is no program {argv[0]}.")
        return cls(line.name, argv, cwd, env, log, grace_s, stop_signal=signal.SIGTERM)

    @property
    def pid(self) -> int | None:
        """The process, or None while there is none."""
        alive = (int(p.pid) for p in list(self._watcher.processes.values()) if p.is_alive())
        return next(alive, None)

    def is_alive(self) -> bool:
        return self.pid is not None

    def member(self) -> Member:
        """What the record says about it."""
        pid = self.pid
        state: State = "running" if pid else "restarting" if self._wanted else "stopped"
        return Member(self.name, self.name, pid, _create_time(pid), state)

    async def start(self) -> None:
        """Start it, unless it runs."""
        self._wanted = True
        self._started = time.monotonic()
        self._next_start = None
        await self._watcher.start()

    async def stop(self) -> None:
        """Ask it to end, wait as long as it may take, then kill it."""
        self._wanted = False
        await self._watcher.stop()

    async def keep(self) -> None:
        """Start it again if it ended: at once the first time, later with pauses."""
        for pid, process in list(self._watcher.processes.items()):
            if not process.is_alive():
                _save_last_words(self._watcher, pid)
                self._watcher.reap_process(pid)
        if not self._wanted or self.is_alive():
            return
        now = time.monotonic()
        if self._next_start is None:
            self.exits += 1
            self._streak = 1 if now - self._started > _STEADY_S else self._streak + 1
            self._next_start = now + _PAUSES_S[min(self._streak, len(_PAUSES_S)) - 1]
        if now >= self._next_start:
            await self.start()


def _save_last_words(watcher: Watcher, pid: int) -> None:
    """Circus closes the pipes of a process that it finds dead, whatever is still in them."""
    process = watcher.processes[pid]
    for stream, pipe in ((watcher.stdout_stream, process.stdout), (watcher.stderr_stream, process.stderr)):
        os.set_blocking(pipe.fileno(), False)
        try:
            stream({"data": os.read(pipe.fileno(), 1 << 20)})
        except BlockingIOError:
            continue


def _create_time(pid: int | None) -> float | None:
    try:
        return float(psutil.Process(pid).create_time()) if pid else None
    except psutil.Error:
        return None
