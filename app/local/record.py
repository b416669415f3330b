"""What a supervisor writes down while it runs: who its processes are, and how to reach its services.

`stack.json` lets `clawq status` show the processes and lets the next supervisor end those that a killed one left.
`stack.env` lets a command typed by hand reach the running services; `app.settings` reads it.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import psutil

from app.local import files
from app.local.home import Home, process_of

#: In the environment of every supervised process and of what it starts: which run of the stack it belongs to.
RUN_VARIABLE = "CLAWQ_RUN"

ENGINES: dict[str, signal.Signals] = {
    "postgres": signal.SIGINT,
    "redis": signal.SIGTERM,
    "chroma": signal.SIGTERM,
}

#: Seconds an engine gets to save.
ENGINE_GRACE_S = 30.0

_KILL_S = 5.0
_POLL_S = 0.05

State = Literal["running", "restarting", "stopped"]


@dataclass(frozen=True)
class Member:
    """One supervised process.

    Attributes:
        name: unique in the stack.
        role: what it is: a line of the Procfile, or an engine.
        pid: None while it does not run.
        create_time: when it started, seconds since the epoch.
        state: `restarting` waits for its next start.
    """

    name: str
    role: str
    pid: int | None
    create_time: float | None
    state: State


#: Where clients find what listens; a stack may lack some of these.
URLS = ("api_url", "ws_url", "flower_url")


def write(home: Home, run: str, urls: Mapping[str, str], members: Iterable[Member]) -> None:
    """Replace the record of this run; `urls` are some of `URLS`."""
    record = {"run": run, **urls, "processes": [asdict(member) for member in members]}
    files.write_json(home.record_file, record)


def read(home: Home) -> dict[str, Any]:
    """The record, or an empty one."""
    return files.read_json(home.record_file)


def write_env(home: Home, variables: Mapping[str, str]) -> None:
    """Write `stack.env`: `NAME='value'` lines that a shell can source and a dotenv parser can read."""
    if any(set(value) & set("'\\\n") for value in variables.values()):
        raise ValueError("a value of stack.env may not contain quotes, backslashes or line ends")
    files.write_private(home.env_file, "".join(f"{name}='{value}'\n" for name, value in variables.items()))


def clear(home: Home) -> None:
    """Nothing runs here any more."""
    home.env_file.unlink(missing_ok=True)
    home.record_file.unlink(missing_ok=True)


#: What to say where `orphans` finds any.
LEFT = "processes of a killed supervisor are left: `clawq up` or `clawq down` ends them"


def orphans(home: Home) -> list[tuple[str, psutil.Process]]:
    """The living processes of a stack whose supervisor is gone, with their roles. Only where nobody holds the home."""
    record = read(home)
    found: dict[int, tuple[str, psutil.Process]] = {}
    for entry in record.get("processes", []):
        process = process_of(entry.get("pid"), entry.get("create_time"))
        if process is not None:
            found[process.pid] = (entry.get("role", ""), process)
    if record.get("run"):
        for process in marked(record["run"]):
            found.setdefault(process.pid, ("", process))
    return list(found.values())


def marked(run: str, without: Collection[int] = ()) -> Iterator[psutil.Process]:
    """What this run of the stack started, at any remove, except these pids."""
    for process in psutil.process_iter():
        try:
            if process.pid not in without and process.environ().get(RUN_VARIABLE) == run:
                yield process
        except (psutil.Error, OSError):
            continue


def end(processes: Iterable[tuple[str, psutil.Process]], drain_s: float) -> None:
    """End orphans: those that work first, the engines that they work with after them."""
    everyone = list(processes)
    _end([(p, signal.SIGTERM) for role, p in everyone if role not in ENGINES], drain_s)
    _end([(p, ENGINES[role]) for role, p in everyone if role in ENGINES], ENGINE_GRACE_S)


def _end(processes: list[tuple[psutil.Process, signal.Signals]], grace_s: float) -> None:
    # psutil compares start times once more before it signals, so a reused pid is safe.
    for process, sign in processes:
        _signal(process, sign)
    alive = _wait([process for process, _ in processes], grace_s)
    for process in alive:
        _signal(process, signal.SIGKILL)
    _wait(alive, _KILL_S)


def _wait(processes: list[psutil.Process], timeout_s: float) -> list[psutil.Process]:
    """Those that still live when time is up. A zombie is dead, even where nobody collects it."""
    deadline = time.monotonic() + timeout_s
    while True:
        processes = [process for process in processes if _lives(process)]
        if not processes or time.monotonic() > deadline:
            return processes
        time.sleep(_POLL_S)


def _lives(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False


def _signal(process: psutil.Process, sign: signal.Signals) -> None:
    try:
        process.send_signal(sign)
    except psutil.Error:
        return
