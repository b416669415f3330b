"""Followers: clients of sockets that are cut off at random, connect again, and go on where they were."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Sequence
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake

#: What a client meets while a server is away.
_AWAY = (ConnectionClosed, InvalidHandshake, OSError, TimeoutError)
#: Sockets that one process opens at once.
_DOORS = 20


class Follower:
    """Follows one thing.

    Args:
        what: the field of `subscribe` that names it, and the id.
        cuts: how often it is cut off, each time after a random number of frames of `total`.
    """

    def __init__(self, what: tuple[str, str], cuts: int, total: int, dice: random.Random) -> None:
        self.what = what
        self.heard: list[tuple[str, int]] = []
        self.connections = 0
        self._total = total
        self._cuts = sorted(dice.sample(range(1, total), cuts), reverse=True)
        self._cursor: str | None = None

    async def follow(self, url: str, key: str, doors: asyncio.Semaphore) -> None:
        """Until all has been heard."""
        while len(self.heard) < self._total:
            try:
                async with doors:
                    socket = await connect(url, proxy=None, open_timeout=20, compression=None)
                    self.connections += 1
                    await self._begin(socket, key)
                await self._hear(socket)
            except _AWAY:
                await asyncio.sleep(0.1)

    async def _begin(self, socket: ClientConnection, key: str) -> None:
        name, an_id = self.what
        subscribe = {"op": "subscribe", name: an_id} | ({"after": self._cursor} if self._cursor else {})
        for frame in ({"op": "auth", "key": key}, subscribe):
            await socket.send(json.dumps(frame))
            answer = json.loads(await socket.recv())
            if answer["type"] == "error" and answer["code"] in ("unavailable", "busy"):
                socket.transport.abort()
                raise TimeoutError
            assert answer["type"] == "ack", answer

    async def _hear(self, socket: ClientConnection) -> None:
        while len(self.heard) < self._total:
            frame = json.loads(await socket.recv())
            assert frame["type"] == "event", frame
            self.heard.append((frame["task_id"], frame["seq"]))
            self._cursor = frame["cursor"]
            if self._cuts and len(self.heard) >= self._cuts[-1]:
                self._cuts.pop()
                socket.transport.abort()
                return
        await socket.close()


def follow(followers: Sequence[Follower], url: str, key: str, timeout: float) -> None:
    """Let all follow until each has heard all. Raises TimeoutError, and says who has not."""

    async def run() -> None:
        doors = asyncio.Semaphore(_DOORS)
        async with asyncio.timeout(timeout), asyncio.TaskGroup() as group:
            for follower in followers:
                group.create_task(follower.follow(url, key, doors))

    try:
        asyncio.run(run())
    except TimeoutError:
        missing: Any = [(f.what, len(f.heard)) for f in followers if len(f.heard) < f._total]
        raise TimeoutError(f"not all was heard: {missing[:5]}") from None
