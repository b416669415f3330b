"""kombu's Redis transport, but one whose dead channels do not take their worker along.

When Redis goes away, Celery leaves the old channel behind; what still wants to use it (the ack of a job that ran on,
the give-back of envelopes as it is closed) has it connect anew. kombu 5.7 then asks a connection that has lost its
parameters: AttributeError, for which nobody is prepared, and the worker ends.
"""

from __future__ import annotations

from typing import Any

import redis
from kombu.transport import redis as kombu_redis


class Channel(kombu_redis.Channel):
    """A channel that says what is wrong, in the way that Celery and kombu expect."""

    def _connparams(self, asynchronous: bool = False) -> dict[str, Any]:
        if self.connection.client is None:
            raise redis.ConnectionError("the connection of this channel was closed")
        found: dict[str, Any] = super()._connparams(asynchronous=asynchronous)  # type: ignore[no-untyped-call]
        return found


class Transport(kombu_redis.Transport):
    """`broker_transport` in app/celery.py names it."""

    Channel = Channel
