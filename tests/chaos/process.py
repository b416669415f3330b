"""Process: one process of the rig, started, watched and hurt by the tests."""

from __future__ import annotations

import signal
import subprocess
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from app.local.servers import Server, _die_with_parent


@dataclass
class Process:
    """One process of the rig."""

    name: str
    argv: tuple[str, ...]
    cwd: Path
    env: Mapping[str, str]
    log: Path
    server: Server | None = None
    popen: subprocess.Popen[bytes] | None = None
    #: Whether it is to be started again when it ends.
    wanted: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def pid(self) -> int | None:
        """None while it does not run."""
        return self.popen.pid if self.popen and self.popen.poll() is None else None

    def start(self) -> None:
        """Start it, unless it runs. It ends with the thread that calls this."""
        with self.lock:
            self.wanted = self.server is None
            if self.pid is None:
                self._start()

    def keep(self) -> None:
        """Start it again if it ended by itself."""
        with self.lock:
            if self.wanted and self.pid is None:
                self._start()

    def _start(self) -> None:
        account = self.server.account if self.server else None
        with self.log.open("ab") as output:
            self.popen = subprocess.Popen(
                self.argv,
                cwd=self.cwd,
                env=self.env,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                user=account.uid if account else None,
                group=account.gid if account else None,
                extra_groups=account.groups if account else None,
                start_new_session=True,
                preexec_fn=_die_with_parent(signal.SIGKILL),
            )

    def signal(self, sign: signal.Signals) -> None:
        """Send a signal to it and all its children, the parent first."""
        for process in self._tree():
            with suppress(psutil.NoSuchProcess):
                process.send_signal(sign)

    def kill(self) -> None:
        """SIGKILL, children included; it stays down."""
        self.wanted = False
        self.signal(signal.SIGKILL)
        self.wait()

    def ask(self, sign: signal.Signals) -> None:
        """Send a signal to it alone."""
        assert self.popen
        self.popen.send_signal(sign)

    def wait(self, timeout: float = 30) -> None:
        """Wait for its end."""
        if self.popen:
            self.popen.wait(timeout)

    def end(self) -> None:
        """Ask it to end, then insist."""
        self.wanted = False
        if self.pid is None:
            return
        self.signal(signal.SIGCONT)
        self.ask(self.server.stop_signal if self.server else signal.SIGTERM)
        try:
            self.wait(15)
        except subprocess.TimeoutExpired:
            self.signal(signal.SIGKILL)
            self.wait()

    def _tree(self) -> list[psutil.Process]:
        if self.pid is None:
            return []
        with suppress(psutil.NoSuchProcess):
            parent = psutil.Process(self.pid)
            return [parent, *parent.children(recursive=True)]
        return []
