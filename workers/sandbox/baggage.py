"""What an image brings along that no container of ours shall have: its environment and its volumes.

A volume would be the host's disk, without a limit. A variable such as PYTHONPATH would have the supervisor import what
a program wrote.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import Any

#: Seconds after which an image is looked at again: its name may have moved to another.
FRESH_S = 60.0
#: The engine looks for python3 by it.
KEPT = "PATH"


@dataclass(frozen=True)
class Baggage:
    """Names of variables, paths of volumes."""

    variables: tuple[str, ...] = ()
    volumes: tuple[str, ...] = ()


NOTHING = Baggage()


class Images:
    """Knows the baggage of images. Safe to use from many threads."""

    def __init__(self, api: Any) -> None:
        """`api`: the engine's docker.APIClient."""
        self._api = api
        self._lock = threading.Lock()
        self._seen: dict[str, tuple[float, Baggage]] = {}

    def baggage(self, image: str) -> Baggage:
        """What `image` brings along. Raises docker.errors.ImageNotFound, or what else the engine does."""
        with self._lock:
            looked_at, baggage = self._seen.get(image, (0.0, NOTHING))
        if looked_at and time.monotonic() - looked_at < FRESH_S:
            return baggage
        baggage = self._look(image)
        with self._lock:
            self._seen[image] = (time.monotonic(), baggage)
        return baggage

    def _look(self, image: str) -> Baggage:
        config = self._api.inspect_image(image)["Config"] or {}
        names = (variable.partition("=")[0] for variable in config.get("Env") or ())
        volumes = config.get("Volumes") or {}
        return Baggage(tuple(name for name in names if name != KEPT), tuple(volumes))
