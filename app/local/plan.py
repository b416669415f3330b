"""What a stack consists of: which engines, which processes, and the environment that ties them together."""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from app.errors import ClawqError, SettingsError
from app.local import chroma, files, ports, postgres, procfile, valkey
from app.local.home import Home
from app.local.listeners import LISTENERS, choose_ports
from app.local.record import RUN_VARIABLE
from app.local.servers import Server
from app.settings import Settings, settings

#: The project's root: where the Procfile is, and where `celery -A app` finds the packages.
ROOT = Path(__file__).resolve().parents[2]

#: Seconds a worker may take beyond its own drain before it is killed.
DRAIN_MARGIN_S = 10.0

#: Celery prints this as prose into logs of JSON. The danger it names is pickle's, and clawq takes JSON only.
_QUIET = "ignore:You're running the worker with superuser privileges"


class StartFailed(ClawqError):
    """The stack did not start."""

    code = "start_failed"

    def __init__(self, detail: str, log_file: Path | None = None) -> None:
        super().__init__(detail)
        self.log_file = log_file


@dataclass(frozen=True)
class Plan:
    """A stack, ready to be started.

    Attributes:
        servers: the engines that no URL stands in for.
        lines: the processes of the Procfile, in their order.
        ports: of those that listen, by name.
        root: where those start.
        env: their whole environment.
        exported: what a command typed by hand needs to reach the stack.
        database_url: for SQLAlchemy.
        grace_s: seconds a process may take to stop.
    """

    servers: tuple[Server, ...]
    lines: tuple[procfile.Line, ...]
    ports: Mapping[str, int]
    root: Path
    env: Mapping[str, str]
    exported: Mapping[str, str]
    database_url: str
    grace_s: float

    @property
    def urls(self) -> dict[str, str]:
        """Where clients find those that listen: `api_url`, `ws_url`, `flower_url`, as far as there are such lines."""
        return {f"{one.name}_url": one.url(self.ports[one.name]) for one in LISTENERS if one.name in self.ports}

    @property
    def api_url(self) -> str | None:
        """None if there is no `api`."""
        return self.urls.get("api_url")

    @property
    def probes(self) -> dict[str, str]:
        """What answers 200 once a process that listens does its work, by name."""
        return {one.name: one.probe(self.ports[one.name]) for one in LISTENERS if one.name in self.ports}


def make_plan(
    home: Home, procfile_path: Path, run: str, report: Callable[..., None], without: Collection[str] = ()
) -> Plan:
    """Decide on everything that can be decided before anything starts; makes data directories if need be.

    Args:
        without: names of lines to leave out.

    Raises:
        SettingsError: something that is needed is missing or taken.
        ServerFailed: Postgres could not make its data directory.
    """
    config = settings()
    lines = _lines(procfile_path, without)
    names = {line.name for line in lines}
    chosen = choose_ports(home, config, names)
    if "flower" in names and config.flower_password is None:
        _ensure_password(home.flower_password_file)
    servers = []
    if config.database_url is None:
        report("step", text="preparing Postgres")
        servers.append(postgres.prepare(home.path))
    if config.redis_url is None:
        servers.append(valkey.prepare(home.path))
    if config.vector_db_url is None:
        servers.append(chroma.prepare(home.path))
    urls = {server.name: server.url for server in servers}
    exported = {
        "DATABASE_URL": urls.get("postgres") or config.require_database_url(),
        "REDIS_URL": urls.get("redis") or config.require_redis_url(),
        "VECTOR_DB_URL": urls.get("chroma") or config.require_vector_db_url(),
        **{one.variable: str(chosen[one.name]) for one in LISTENERS if one.name in chosen},
    }
    return Plan(
        servers=tuple(servers),
        lines=tuple(lines),
        ports=chosen,
        root=procfile_path.parent,
        env=_environment(home, exported, run),
        exported=exported,
        database_url=Settings(database_url=exported["DATABASE_URL"]).require_database_url(),
        grace_s=config.drain_s + DRAIN_MARGIN_S,
    )


def _lines(path: Path, without: Collection[str]) -> list[procfile.Line]:
    lines = procfile.read(path)
    if unknown := set(without) - {line.name for line in lines}:
        raise SettingsError(f"The Procfile has no line {min(unknown)} to leave out.")
    return [line for line in lines if line.name not in without]


def _ensure_password(file: Path) -> None:
    if not file.exists() or not file.read_text().strip():
        files.write_private(file, secrets.token_urlsafe(24) + "\n")


def _environment(home: Home, exported: Mapping[str, str], run: str) -> dict[str, str]:
    # `.venv/bin/clawq` works without an activated environment; so must what it starts.
    programs = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)))
    return {
        **os.environ,
        **exported,
        "PATH": programs,
        "CLAWQ_HOME": str(home.path),
        "CLAWQ_HEALTH_PORT": "0",
        "CLAWQ_BIND_HOST": ports.LOOPBACK,
        "PYTHONUNBUFFERED": "1",
        "PYTHONWARNINGS": ",".join(filter(None, (_QUIET, os.environ.get("PYTHONWARNINGS")))),
        RUN_VARIABLE: run,
    }


def prepare_database(database_url: str, key_file: Path) -> str:
    """Bring the schema up to date and make sure that the file holds a working key.

    Returns:
        The key's text.
    """
    from app.keys import ensure_first_key
    from schema.migrate import migrate

    migrate(database_url)
    return ensure_first_key(database_url, key_file)
