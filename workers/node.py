"""The node: what one worker process is and holds. Built when Celery starts a worker, found by its jobs."""

from __future__ import annotations

import logging
import os
import socket
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from app import agents, metrics, publisher
from app.db import statements
from app.embeddings import choose as choose_embedder
from app.embeddings.base import EmbedderAway
from app.errors import SettingsError
from app.health import HealthServer
from app.queues import Queue
from app.settings import settings
from workers.heart import Heart
from workers.reaping import Reaping
from workers.sandbox.choose import choose
from workers.sandbox.spec import Sandbox

log = logging.getLogger(__name__)

_PORTS = {Queue.GATEWAY: 8000, Queue.COORDINATOR: 8001, Queue.EXECUTION: 8002, Queue.MEMORY: 8003}
#: Seconds without a sign from Celery's consumer loop after which the process is taken for stuck.
_STALL_S = 30


@dataclass
class Pulse:
    """Whether Celery's consumer loop turns. While the broker is away it rests, and that is no reason to restart."""

    connected: bool = False
    #: False after `celery control cancel_consumer`.
    subscribed: bool = True
    at: float = 0.0

    def beat(self) -> None:
        """A sign of life from the loop."""
        self.at = time.monotonic()

    @property
    def stalled(self) -> bool:
        """Connected, and yet the loop does not turn."""
        return self.connected and time.monotonic() - self.at > _STALL_S

    @property
    def consuming(self) -> bool:
        """Whether tasks are taken from the queue."""
        return self.connected and self.subscribed and not self.stalled


class Node:
    """One worker process."""

    def __init__(self, name: str, role: Queue, slots: Callable[[], int]) -> None:
        self.name = name
        self.role = role
        self.slots = slots
        #: What sets this process apart from any other, also from one of its name that runs later.
        self.instance = uuid.uuid4().hex
        self.agent_id = settings().agent_id or f"{role}_agent"
        self.pulse = Pulse()
        self._registered: dict[str, Any] = {}
        self._reaping: Reaping | None = None
        self.heart = Heart(self._register)
        self.server = HealthServer(default_port=_PORTS[role], health=self._health, ready=self._ready)

    @cached_property
    def sandbox(self) -> Sandbox:
        """Where this machine runs code."""
        return choose(settings(), worker=self.name, instance=self.instance)

    def start(self) -> None:
        """Register and begin to beat.

        Raises:
            sqlalchemy.exc.SQLAlchemyError: Postgres is not reachable.
            SettingsError: a memory worker cannot make vectors as the settings want them.
        """
        if self.role == Queue.EXECUTION:
            # Chosen before the first task comes: looking for an engine takes a moment.
            metrics.SANDBOXES_WAITING.set_function(self.sandbox.waiting)
        if self.role == Queue.MEMORY:
            _check_embedder()
        self.heart.start()
        if self.role == Queue.EXECUTION:
            # Not before this process is known to live: other workers reap what has no owner.
            self.sandbox.open()
            self._reaping = Reaping(self.sandbox)

    def leave(self) -> None:
        """Stop beating and take this worker off the list."""
        self.heart.close()
        if self._reaping:
            self._reaping.close()
        with statements() as db:
            agents.leave(db, self.name, os.getpid())
        self.server.close()

    def close(self) -> None:
        """Remove the sandboxes that wait here."""
        if self._reaping:
            self.sandbox.close()

    def beat(self, *, subscribed: bool) -> None:
        """A sign of life from Celery's consumer loop; what has changed since the last heartbeat is registered soon."""
        self.pulse.subscribed = subscribed
        self.pulse.beat()
        if self._info() != self._registered:
            self.heart.hurry()

    def _info(self) -> dict[str, Any]:
        return {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "instance": self.instance,
            "slots": self.slots(),
            "consuming": self.pulse.consuming,
            "health_port": self.server.port,
            **({"sandbox": self.sandbox.name} if self.role == Queue.EXECUTION else {}),
        }

    def _register(self) -> None:
        info = self._info()
        with statements() as db:
            agents.heartbeat(db, worker=self.name, agent_id=self.agent_id, role=self.role, info=info)
        self._registered = info

    def _health(self) -> tuple[bool, dict[str, Any]]:
        return not self.pulse.stalled, {"worker": self.name, "consuming": self.pulse.consuming}

    def _ready(self) -> tuple[bool, dict[str, Any]]:
        checks = {
            "consuming": self.pulse.consuming,
            "redis": publisher.answers(),
            "postgres": self.heart.healthy,
        }
        return all(checks.values()), {"worker": self.name, **checks}


def _check_embedder() -> None:
    try:
        choose_embedder.check(choose_embedder.embedder())
    except EmbedderAway as exc:
        # What is stored meanwhile waits in the outbox.
        log.warning("%s", exc.detail)


_current: list[Node] = []


def current() -> Node:
    """The node of this process. Raises SettingsError outside a worker."""
    if not _current:
        raise SettingsError("This process is not a worker.")
    return _current[0]


def become(name: str, queues: list[str], slots: Callable[[], int]) -> Node:
    """Make this process a node. `slots` tells how many tasks it runs at once; that changes as it is scaled.

    Raises:
        SettingsError: the role is not clear, or the health port is taken.
    """
    if len(queues) != 1:
        raise SettingsError("A worker has one role: name its queue, as in `celery -A app worker -Q execution`.")
    role = settings().agent_type
    if role not in (None, queues[0]):
        raise SettingsError(f"AGENT_TYPE is {role}, but -Q names {queues[0]}: a worker of a role serves its queue.")
    _current[:] = [Node(name, Queue(queues[0]), slots)]
    return _current[0]
