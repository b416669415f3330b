"""What a stack needs on this machine, checked one by one."""

from __future__ import annotations

import importlib
import platform
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Literal

import httpx
import psycopg2
import redis
from sqlalchemy.exc import SQLAlchemyError

from app.errors import ClawqError
from app.local import chroma, ports, postgres, record, valkey
from app.local import home as homes
from app.local.accounts import choose_account
from app.local.home import NEEDED_BYTES
from app.local.listeners import LISTENERS
from app.memory import heartbeat
from app.settings import Settings

#: Named, not imported: app does not depend on workers.
_SANDBOXES = "workers.sandbox.choose"


@dataclass(frozen=True)
class Check:
    """The answer to one question. `warn` does not keep a stack from running."""

    name: str
    state: Literal["ok", "warn", "fail"]
    detail: str


def examine(config: Settings) -> list[Check]:
    """All checks, in the order in which a start would need them. Starts and changes nothing in the home."""
    questions: list[Callable[[Settings], Iterator[Check]]] = [
        _python,
        _home,
        _port,
        _postgres,
        _redis,
        _chroma,
        _schema,
        _sandbox,
    ]
    return [check for question in questions for check in _asked(question, config)]


def _asked(question: Callable[[Settings], Iterator[Check]], config: Settings) -> Iterator[Check]:
    name = question.__name__.strip("_")
    try:
        yield from question(config)
    except ClawqError as exc:
        yield Check(name, "fail", exc.detail)
    except (psycopg2.Error, redis.RedisError, SQLAlchemyError, OSError) as exc:
        yield Check(name, "fail", (str(exc).strip().splitlines() or [type(exc).__name__])[0])


def _python(_: Settings) -> Iterator[Check]:
    version = platform.python_version()
    yield Check("python", "ok" if sys.version_info >= (3, 11) else "fail", f"{version} (3.11 or newer is needed)")


def _home(config: Settings) -> Iterator[Check]:
    home = homes.locate(config.home)
    below = next(place for place in (home.path, *home.path.parents) if place.exists())
    if not homes.is_writable(below):
        yield Check("home", "fail", f"{below} is not writable")
        return
    runs = homes.is_held(home)
    if not runs and record.orphans(home):
        yield Check("home", "fail", f"{home.path}, {record.LEFT}")
    else:
        yield Check("home", "ok", f"{home.path}, {'a stack runs in it' if runs else 'no stack runs in it'}")
    free = shutil.disk_usage(below).free
    enough = free >= NEEDED_BYTES or runs
    yield Check("disk", "ok" if enough else "fail", f"{free >> 20} MB free ({NEEDED_BYTES >> 20} MB are needed)")


def _port(config: Settings) -> Iterator[Check]:
    home = homes.locate(config.home)
    if homes.is_held(home):
        yield Check("port", "ok", f"the running stack answers at {record.read(home).get('api_url')}")
        return
    for listener in LISTENERS:
        port = listener.wanted(config)
        if port == 0:
            yield Check("port", "ok", f"{listener.name}: a free one will be picked")
        elif ports.is_free(port):
            yield Check("port", "ok", f"{listener.name}: {port} is free")
        else:
            detail = f"{listener.name}: {port} is taken: set {listener.variable} to another, or to 0"
            yield Check("port", "fail", detail)


def _postgres(config: Settings) -> Iterator[Check]:
    if config.database_url is not None:
        url = config.require_database_url().replace("+psycopg2", "", 1)
        with closing(psycopg2.connect(url, connect_timeout=5)) as connection:
            major = connection.server_version // 10_000
        detail = f"{_origin(config)}, Postgres {major}"
        yield Check("postgres", "ok" if major in postgres.MAJORS else "fail", detail)
    else:
        root = homes.locate(config.home).path / "postgres"
        install = postgres.fitting(root / "data", choose_account(root))
        yield Check("postgres", "ok", f"Postgres {install.version} from the {install.source} ({install.bin})")


def _redis(config: Settings) -> Iterator[Check]:
    if config.redis_url is not None:
        with redis.Redis.from_url(config.require_redis_url(), socket_connect_timeout=5, socket_timeout=5) as client:
            version = client.info("server").get("redis_version")
        yield Check("redis", "ok", f"{_origin(config)}, speaks Redis {version}")
    else:
        install = valkey.choose(choose_account(homes.locate(config.home).path / "redis"))
        yield Check("redis", "ok", f"{install.version} from the {install.source} ({install.program})")


def _chroma(config: Settings) -> Iterator[Check]:
    if config.vector_db_url is None:
        yield Check("chroma", "ok", f"Chroma {chroma.version()}")
        return
    try:
        heartbeat.listen(config.require_vector_db_url(), timeout_s=5)
    except httpx.HTTPError as exc:
        detail = f"no answer ({type(exc).__name__}): until there is, memories are found by their words alone"
        yield Check("chroma", "warn", detail)
    else:
        yield Check("chroma", "ok", f"{_origin(config)}, answers")


def _schema(config: Settings) -> Iterator[Check]:
    from schema.migrate import is_current

    if config.database_url is None:
        yield Check("schema", "ok", "will be made at the first start")
    elif is_current(config.require_database_url()):
        yield Check("schema", "ok", "up to date")
    else:
        yield Check("schema", "warn", "not up to date: `clawq migrate` brings it there")


def _sandbox(config: Settings) -> Iterator[Check]:
    found = importlib.import_module(_SANDBOXES).probe(config)
    any_usable = any(usable for _, usable, _ in found)
    for name, usable, sentence in found:
        yield Check(name, "ok" if usable else "warn", sentence)
    if not any_usable:
        yield Check("sandbox", "fail", "no sandbox is usable here, so tasks that run code would fail")


def _origin(config: Settings) -> str:
    return "running stack" if homes.is_held(homes.locate(config.home)) else "by its URL"
