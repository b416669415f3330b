"""The rig: clawq's own processes over real engines, each started by the tests and hurt from outside.

What runs is the embedded stack's plan (Procfile, engines, environment), without its supervisor: that one's pauses
before a restart are right for people and too long here. There are two execution workers, and every process reaches
Postgres, Redis and Chroma through links of its own.
"""

from __future__ import annotations

import asyncio
import re
import signal
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import httpx
import redis as redis_
from celery import Celery

from app.local import home as homes
from app.local.plan import Plan, prepare_database
from app.local.procfile import Line
from app.local.ready import wait_for_workers
from app.local.servers import Server, wait_until_ready
from tests.chaos.invariants import Inside
from tests.chaos.links import Link, Loop
from tests.chaos.process import Process
from tests.support import HTTP, eventually

ROLES = ("api", "ws", "gateway", "coordinator", "execution", "memory", "clock")
EXECUTION = ("execution", "execution-2")
WORKERS = ("gateway", "coordinator", *EXECUTION, "memory")
#: What tasks need. Memories need Chroma as well.
ENGINES = ("postgres", "redis")
_URLS = {"postgres": "DATABASE_URL", "redis": "REDIS_URL", "chroma": "VECTOR_DB_URL"}

END_SESSIONS = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'clawq'"
_SESSIONS = "SELECT pid FROM pg_stat_activity WHERE application_name = 'clawq'"
# Administrators have a few more.
_FREE_CONNECTIONS = """
    SELECT current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
           - (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid())
           AS n
"""


class Rig:
    """A running stack, its faults, and the way back to health."""

    def __init__(self, plan: Plan, home: homes.Home, loop: Loop) -> None:
        self._plan = plan
        self._loop = loop
        self.home = home
        self.inside = Inside(home.path)
        self.api_url = plan.api_url or ""
        self.ws_url = plan.urls["ws_url"]
        self._probes = [plan.probes[name] for name in ("api", "ws")]
        self.api_key = ""
        self._engine_ports = {server.name: _port(server.url) for server in plan.servers}
        self._links: dict[tuple[str, str], Link] = {}
        self.processes: dict[str, Process] = {}
        for server in plan.servers:
            self._add(server.name, server.argv, server.cwd, server.env, server)
        lines = {line.name: line for line in plan.lines}
        for name in ROLES:
            self.add(lines[name])
        self.add(Line("execution-2", lines["execution"].command.replace("execution@%h", "execution-2@%h")))
        self._closed = threading.Event()
        self._keeper = threading.Thread(target=self._keep, name="keeper", daemon=True)
        self._spare_clock = Line("clock-2", lines["clock"].command)

    def add(self, line: Line) -> None:
        """Have one more process, not started yet, with links of its own."""
        env = dict(self._plan.env)
        for engine, variable in _URLS.items():
            port = self._engine_ports[engine]
            link = self._links[line.name, engine] = Link(self._loop, port)
            env[variable] = re.sub(rf":{port}\b", f":{link.port}", env[variable])
        self._add(line.name, tuple(line.argv(env)), self._plan.root, env, None)

    def _add(self, name: str, argv: tuple[str, ...], cwd: Path, env: Mapping[str, str], server: Server | None) -> None:
        self.processes[name] = Process(name, argv, cwd, env, self.home.log(name), server)

    def link(self, process: str, engine: str) -> Link:
        """The way from a process to `postgres`, `redis` or `chroma`."""
        return self._links[process, engine]

    def start(self) -> None:
        """Start everything, engines first."""
        for engine in _URLS:
            self.start_engine(engine)
        self.api_key = prepare_database(self._plan.database_url, self.home.key_file)
        self.heal()
        self._keeper.start()

    def _keep(self) -> None:
        """Start what ended by itself, as any supervisor would."""
        while not self._closed.wait(0.2):
            for process in list(self.processes.values()):
                process.keep()

    def start_engine(self, name: str) -> None:
        """Start an engine and wait until it answers."""
        process = self.processes[name]
        assert process.server
        process.start()
        wait_until_ready(process.server, lambda: process.pid is not None)

    def stop(self) -> None:
        """Stop everything, engines last."""
        self._closed.set()
        for name in (*(name for name in self.processes if name not in _URLS), *_URLS):
            self.processes[name].end()
        for link in self._links.values():
            link.close()

    # Faults

    def kill(self, *names: str, restart: bool = True) -> None:
        """SIGKILL, children included; then start it again at once, as any supervisor would, unless told not to."""
        for name in names:
            self.processes[name].kill()
        for name in names:
            if restart:
                self.processes[name].start()

    def pause(self, *names: str) -> None:
        """SIGSTOP."""
        for name in names:
            self.processes[name].signal(signal.SIGSTOP)

    def resume(self, *names: str) -> None:
        """SIGCONT."""
        for name in names:
            self.processes[name].signal(signal.SIGCONT)

    def ask_to_leave(self, name: str) -> None:
        """SIGTERM; once it is gone, start it again."""
        process = self.processes[name]
        process.wanted = False
        process.ask(signal.SIGTERM)
        process.wait()
        process.start()

    @contextmanager
    def paused(self, *names: str) -> Iterator[None]:
        """SIGSTOP for the length of the block."""
        self.pause(*names)
        try:
            yield
        finally:
            self.resume(*names)

    @contextmanager
    def unheard(self) -> Iterator[None]:
        """Execution workers live and send heartbeats, but take no envelopes, for the length of the block."""
        self._tell_workers("cancel_consumer")
        try:
            yield
        finally:
            self._tell_workers("add_consumer")

    @contextmanager
    def postgres_full(self) -> Iterator[None]:
        """No connection to Postgres is left for clawq, for the length of the block."""
        inside = Inside(self.home.path)

        with ExitStack() as held:
            inside.sql("ALTER ROLE clawq CONNECTION LIMIT 0")
            inside.sql(END_SESSIONS)
            # One that is still about to end would leave its place to another.
            eventually(lambda: not inside.sql(_SESSIONS))
            (free,) = inside.sql(_FREE_CONNECTIONS)
            for _ in range(free.n):
                held.enter_context(closing(inside.connect()))
            # From here on the server itself is full.
            inside.sql("ALTER ROLE clawq CONNECTION LIMIT -1")
            yield

    def second_clock(self) -> None:
        """Start another clock; it stays until the end of the scenario."""
        if "clock-2" not in self.processes:
            self.add(self._spare_clock)
        self.processes["clock-2"].start()

    def heal(self) -> None:
        """Undo every fault, and wait until the stack takes work."""
        if "clock-2" in self.processes:
            self.processes["clock-2"].kill()
        for link in self._links.values():
            link.mend()
        for name, process in self.processes.items():
            process.signal(signal.SIGCONT)
            if process.server:
                self.start_engine(name)
            elif name != "clock-2":
                process.start()
        with self.redis() as redis:
            redis.config_set("maxmemory", 0)
        eventually(lambda: all(map(_is_ready, self._probes)), timeout=60)
        pids = self.pids(*WORKERS)
        asyncio.run(wait_for_workers(self.api_url, self.api_key, frozenset(WORKERS), lambda: pids, self.home.log))

    def sweep(self) -> None:
        """I7: no container of a dead worker is left once another has started."""
        self.kill("execution")
        eventually(lambda: not self.inside.orphans(), timeout=60)

    def pids(self, *names: str) -> dict[str, int | None]:
        """Which processes these are now; None while one does not run."""
        return {name: self.processes[name].pid for name in names}

    def redis(self) -> redis_.Redis:
        """A client of Redis itself, past all links."""
        return redis_.Redis.from_url(self._plan.exported["REDIS_URL"])

    def _tell_workers(self, command: str) -> None:
        names = [f"{name}@{socket.gethostname()}" for name in EXECUTION]
        with (
            Celery(broker=self._plan.exported["REDIS_URL"], set_as_current=False) as app,
            app.connection_for_write() as connection,
        ):
            answers = getattr(app.control, command)(
                "execution", destination=names, connection=connection, reply=True, timeout=10, limit=len(names)
            )
        assert len(answers) == len(names), f"{command}: {answers}"


@contextmanager
def a_rig(plan: Plan, home: homes.Home) -> Iterator[Rig]:
    """A rig that runs for the length of the block."""
    loop = Loop()
    rig = Rig(plan, home, loop)
    try:
        rig.start()
        yield rig
    finally:
        rig.stop()
        loop.close()


def _port(url: str) -> int:
    found = re.search(r":(\d+)(?:/|$)", url)
    assert found
    return int(found[1])


def _is_ready(probe: str) -> bool:
    try:
        return HTTP.get(probe, timeout=5).is_success
    except httpx.HTTPError:
        return False
