"""The process that runs a stack: engines first, then migrations, then the Procfile; and back down in reverse.

`clawq up` starts it as `python -m app.local.supervisor HOME` and reads what it reports: one JSON object a line on
standard output, `{"event": "step" | "ready" | "failed", …}`. Its own log goes to standard error.
"""

from __future__ import annotations

import argparse
import asyncio
import errno
import json
import logging
import os
import secrets
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from app.errors import ClawqError
from app.local import home as homes
from app.local import logfiles, record
from app.local.home import Home
from app.local.plan import DRAIN_MARGIN_S, ROOT, StartFailed, make_plan, prepare_database
from app.local.ready import wait_for_answer, wait_for_workers, workers_of
from app.local.servers import ServerFailed, wait_until_ready
from app.local.watchers import Watched
from app.settings import settings

_TICK_S = 0.25

#: How often a process may end before the start counts as failed.
_ENDS_AT_START = 3

_LEFTOVER_GRACE_S = 3.0

log = logging.getLogger(__name__)


def report(event: str, **details: Any) -> None:
    """Tell whoever started us, if they still listen."""
    try:
        print(json.dumps({"event": event, **details}), flush=True)
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class Supervisor:
    """One stack, from start to stop. The caller holds the home's lock."""

    def __init__(self, home: Home, procfile: Path, *, without: Sequence[str], bare: bool) -> None:
        self._home = home
        self._procfile = procfile
        self._without = without
        self._bare = bare
        self._run_id = secrets.token_hex(16)
        self._urls: dict[str, str] = {}
        self._started = False
        self._engines: list[Watched] = []
        self._processes: list[Watched] = []
        self._written: list[record.Member] = []

    async def run(self, stop: asyncio.Event) -> None:
        """Start everything, keep it running until `stop` is set, stop everything.

        Raises:
            ClawqError: the start failed; what had started is stopped again.
        """
        keeper: asyncio.Task[None] | None = None
        starter = asyncio.create_task(self._start())
        stopper = asyncio.create_task(stop.wait())
        try:
            keeper = asyncio.create_task(self._keep())
            await asyncio.wait({starter, keeper, stopper}, return_when=asyncio.FIRST_COMPLETED)
            if starter.done():
                report("ready", **starter.result())
                await asyncio.wait({keeper, stopper}, return_when=asyncio.FIRST_COMPLETED)
            if keeper.done():
                keeper.result()
        finally:
            for task in (starter, keeper, stopper):
                if task is not None:
                    task.cancel()
            await self._stop()

    async def _start(self) -> dict[str, Any]:
        plan = await asyncio.to_thread(
            make_plan, self._home, self._procfile, self._run_id, report, without=self._without
        )
        for server in plan.servers:
            report("step", text=f"starting {server.version}")
            watched = Watched.server(server, self._home.log(server.name), self._run_id)
            self._engines.append(watched)
            await watched.start()
            self._write()
        required = [pair for pair in zip(plan.servers, self._engines, strict=True) if pair[0].required]
        for server, watched in required:
            try:
                await asyncio.to_thread(wait_until_ready, server, watched.is_alive)
            except ServerFailed as exc:
                raise StartFailed(exc.detail, watched.log) from exc
        record.write_env(self._home, plan.exported)
        key = None
        if not self._bare:
            report("step", text="bringing the database up to date")
            key = await asyncio.to_thread(prepare_database, plan.database_url, self._home.key_file)
        self._urls = plan.urls
        for line in plan.lines:
            report("step", text=f"starting {line.name}")
            watched = Watched.line(line, plan.env, plan.root, self._home.log(line.name), plan.grace_s)
            self._processes.append(watched)
            await watched.start()
            self._write()
        for name, probe in plan.probes.items():
            report("step", text=f"waiting for {probe}")
            await wait_for_answer(name, probe, self._home.log(name))
        if plan.api_url and key:
            report("step", text="waiting for the workers")
            await wait_for_workers(plan.api_url, key, workers_of(plan.lines), self._pids, self._home.log)
        self._started = True
        self._write()
        return {**plan.urls, "api_key": key, "home": str(self._home.path)}

    async def _keep(self) -> None:
        while True:
            for watched in (*self._engines, *self._processes):
                await watched.keep()
                allowed = _ENDS_AT_START if watched in self._processes else 1
                if not self._started and watched.required and watched.exits >= allowed:
                    raise StartFailed(f"{watched.name} ended while starting.", watched.log)
            self._write()
            await asyncio.sleep(_TICK_S)

    def _write(self) -> None:
        """Write the record down if it changed. Without space it is old, and the stack goes on."""
        members = [watched.member() for watched in (*self._engines, *self._processes)]
        if members != self._written:
            with suppress(OSError):
                record.write(self._home, self._run_id, self._urls, members)
                self._written = members

    async def _stop(self) -> None:
        """The processes at once, each with its time to drain; then what they worked with."""
        if self._engines or self._processes:
            report("step", text="stopping")
        await asyncio.gather(*(watched.stop() for watched in self._processes))
        # What a killed process left behind; a worker that drained leaves nothing.
        left = [("", process) for process in record.marked(self._run_id, without=self._engine_pids())]
        await asyncio.to_thread(record.end, left, _LEFTOVER_GRACE_S)
        await asyncio.gather(*(watched.stop() for watched in self._engines))
        record.clear(self._home)

    def _pids(self) -> dict[str, int | None]:
        return {watched.name: watched.pid for watched in self._processes}

    def _engine_pids(self) -> set[int]:
        return {watched.pid for watched in self._engines if watched.pid}


def end_orphans(home: Home) -> None:
    """End what a killed supervisor left running here, so that no two servers write the same files."""
    # Its URLs are those of services that are gone; `settings` must not read them.
    home.env_file.unlink(missing_ok=True)
    left = record.orphans(home)
    if left:
        report("step", text=f"ending {len(left)} processes that a killed supervisor left")
        record.end(left, settings().drain_s + DRAIN_MARGIN_S)
    record.clear(home)


async def _supervise(home: Home, procfile: Path, *, without: Sequence[str], leash: bool, bare: bool) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for sign in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        loop.add_signal_handler(sign, stop.set)
    if leash:
        loop.add_reader(sys.stdin.fileno(), stop.set)
    await Supervisor(home, procfile, without=without, bare=bare).run(stop)


def _say(exc: ClawqError | OSError, home: Path) -> str:
    if isinstance(exc, ClawqError):
        return exc.detail
    if exc.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"CLAWQ_HOME {home} has no space left."
    return f"{exc.strerror}: {exc.filename}." if exc.filename else f"{exc}."


def main(argv: list[str] | None = None) -> int:
    """Run a stack until a signal. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m app.local.supervisor")
    parser.add_argument("home", type=Path)
    parser.add_argument("--procfile", type=Path, default=ROOT / "Procfile")
    parser.add_argument("--without", action="append", default=[], metavar="NAME", help="a line to leave out")
    parser.add_argument("--leash", action="store_true", help="end when standard input does")
    parser.add_argument("--bare", action="store_true", help="no schema and no API key: not clawq's processes")
    args = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    os.umask(0o077)
    try:
        home = homes.open_home(args.home)
        os.environ["CLAWQ_HOME"] = str(home.path)
        with homes.acquire(home):
            end_orphans(home)
            asyncio.run(
                _supervise(home, args.procfile.absolute(), without=args.without, leash=args.leash, bare=args.bare)
            )
    except (ClawqError, OSError) as exc:
        log.exception("the stack did not run")
        log_file = getattr(exc, "log_file", None)
        report("failed", sentence=_say(exc, args.home), log=str(log_file or ""), tail=logfiles.tail(log_file))
        return 1
    except Exception as exc:
        log.exception("the stack did not run")
        report("failed", sentence=f"The stack failed unexpectedly ({type(exc).__name__}: {exc}).", log="", tail=[])
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
