"""Celery's result backend on Redis, for nothing but counting the headers of chords.

Results live in Postgres, and nobody waits for a Celery job. Celery's own backend would subscribe to a channel for every
job that a canvas sends, and keep both for the life of the process.
"""

from __future__ import annotations

from typing import Any

from celery.backends.redis import CHORD_CLEANUP_LUA, RedisBackend
from kombu.utils.objects import cached_property

#: Seconds that Redis remembers a finished chord, so that a late copy of a header does not begin to count anew. Celery's
#: own 300 let the keys of a thousand workflows pile up; here a second start of the body is harmless.
_DONE_S = 5


class QuietBackend(RedisBackend):
    """Counts, and subscribes to nothing."""

    def add_pending_result(self, result: Any, *_: Any, **__: Any) -> Any:
        """Nobody will ask for it."""
        return result

    def on_task_call(self, producer: Any, task_id: str) -> None:
        """Nobody will ask for it."""

    def _store_result(self, task_id: str, result: Any, *_: Any, **__: Any) -> Any:
        """Nobody will ask for it. Celery would store the failure of a body that could not be sent, for a day."""
        return result

    @cached_property
    def _chord_cleanup_script(self) -> Any:
        script = self.client.register_script(CHORD_CLEANUP_LUA)
        return lambda keys, args, client: script(keys=keys, args=[args[0], _DONE_S], client=client)
