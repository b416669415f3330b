"""Flower's settings, which `celery -A app flower` reads from this file; the names are Flower's.

It looks and changes nothing, and shows nothing to whoever does not know the password.
"""

from __future__ import annotations

import sys

from flower.views import BaseHandler, monitor
from tornado.web import HTTPError, authenticated

from app import logs
from app.errors import ClawqError, SettingsError
from app.local import home as homes
from app.settings import Settings, settings


def _credentials(config: Settings) -> str:
    """User and password, with a colon in between. Raises SettingsError if there is no password."""
    password = config.flower_password.get_secret_value() if config.flower_password else _kept(config)
    return f"{config.flower_user}:{password}"


def _kept(config: Settings) -> str:
    file = homes.locate(config.home).flower_password_file
    kept = file.read_text(encoding="ascii").strip() if file.exists() else ""
    if not kept:
        raise SettingsError("Flower has no password: start the stack with `clawq up`, or set CLAWQ_FLOWER_PASSWORD.")
    return kept


def _close() -> None:
    """Ask for the password where Flower does not, and refuse what it could not compare with it."""
    # They name workers and jobs.
    monitor.Metrics.get = authenticated(monitor.Metrics.get)
    ask = BaseHandler.get_current_user

    def get_current_user(handler: BaseHandler) -> object:
        try:
            return ask(handler)
        except TypeError:  # from hmac, for what is not ASCII
            raise HTTPError(401) from None

    BaseHandler.get_current_user = get_current_user


try:
    # In place of Tornado's own logs, which are the next setting.
    logs.configure()
    basic_auth = [_credentials(settings())]
except ClawqError as exc:
    sys.exit(exc.detail)
_close()
logging = "none"

read_only = True
#: Both, unless the command line says otherwise.
address = settings().bind_host
port = settings().flower_port
#: A worker tells how it is without being asked. An event a task would cost it a quarter of its time.
enable_events = False
#: If somebody turns events on all the same.
max_tasks = 10_000
#: Seconds after which a worker that is gone is no longer shown.
purge_offline_workers = 600
