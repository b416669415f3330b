"""Links: proxies that stand between one process and one engine, and can break in every way a network does."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any

from app.local import ports

_CHUNK = 1 << 16


class Loop:
    """An event loop in a thread of its own, for all links."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, name="links", daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Run a coroutine there and wait for what it returns."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(10)

    def close(self) -> None:
        self.run(_cancel_all())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(10)
        self.loop.close()


class Connection:
    """One connection through a link. Nothing passes while `is_open` is not set."""

    def __init__(self, client: asyncio.StreamWriter, server: asyncio.StreamWriter) -> None:
        self.is_open = asyncio.Event()
        self.is_open.set()
        #: How far it has come in saying what the link's trap waits for.
        self.said = 0
        self._ends = (client, server)

    def cut(self) -> None:
        for end in self._ends:
            end.transport.abort()


class Link:
    """A listening port whose connections go on to an engine. Its methods are called from the tests' thread."""

    def __init__(self, loop: Loop, target: int | str) -> None:
        """`target`: a port on the loopback address."""
        self._loop = loop
        self._target = target
        self._connections: set[Connection] = set()
        self._paused = False
        self._trap: tuple[tuple[bytes, ...], bool] | None = None
        self._sprung = threading.Event()
        self._server = loop.run(self._listen())

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._server.sockets[0].getsockname()[1])

    def pause(self) -> None:
        """Nothing arrives any more and nobody is told: a cable that was pulled."""
        self._loop.run(self._set_paused(True))

    def trap(self, *words: bytes, deliver: bool) -> None:
        """Pause the one connection on which the client next says all `words` in turn, as the last of them is said.

        With `deliver` the engine still hears it and does what it is told, and its answer is held.
        """
        self._sprung.clear()
        for connection in self._connections:
            connection.said = 0
        self._trap = (words, deliver)

    @property
    def sprung(self) -> bool:
        """Whether the trap has."""
        return self._sprung.is_set()

    def await_sprung(self) -> None:
        """Wait for it."""
        assert self._sprung.wait(30), "nobody said that"

    def cut(self) -> None:
        """Break all connections; new ones are let through."""
        self._loop.run(self._cut())

    def mend(self) -> None:
        """Let everything through again, what was held included."""
        self._trap = None
        self._loop.run(self._set_paused(False))

    def close(self) -> None:
        """Break all connections and listen no more."""
        self.cut()
        self._loop.loop.call_soon_threadsafe(self._server.close)

    async def _listen(self) -> asyncio.Server:
        return await asyncio.start_server(self._serve, ports.LOOPBACK, 0)

    async def _reach(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection to the engine. Raises OSError."""
        return await asyncio.open_connection(ports.LOOPBACK, self._target)

    async def _set_paused(self, paused: bool) -> None:
        self._paused = paused
        for connection in self._connections:
            if paused:
                connection.is_open.clear()
            else:
                connection.is_open.set()

    async def _cut(self) -> None:
        for connection in self._connections:
            connection.cut()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            answers, server = await self._reach()
        except OSError:
            writer.transport.abort()
            return
        connection = Connection(writer, server)
        if self._paused:
            connection.is_open.clear()
        self._connections.add(connection)
        ways = (self._ask(connection, reader, server), self._answer(connection, answers, writer))
        try:
            await asyncio.wait([asyncio.ensure_future(way) for way in ways], return_when=asyncio.ALL_COMPLETED)
        finally:
            self._connections.discard(connection)
            connection.cut()

    async def _ask(self, connection: Connection, reader: asyncio.StreamReader, server: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(_CHUNK):
                await connection.is_open.wait()
                if self._springs(connection, data):
                    _, deliver = self._trap or ((), False)
                    self._trap = None
                    connection.is_open.clear()
                    if deliver:
                        server.write(data)
                    self._sprung.set()
                    await connection.is_open.wait()
                    if deliver:
                        continue
                server.write(data)
                await server.drain()
            # A client that is gone while nothing passes leaves its engine in the dark, as a broken network does.
            await connection.is_open.wait()
        server.close()

    def _springs(self, connection: Connection, data: bytes) -> bool:
        if self._trap is None:
            return False
        words, _ = self._trap
        while connection.said < len(words) and words[connection.said] in data:
            connection.said += 1
        return connection.said == len(words)

    async def _answer(
        self, connection: Connection, answers: asyncio.StreamReader, client: asyncio.StreamWriter
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await answers.read(_CHUNK):
                await connection.is_open.wait()
                client.write(data)
                await client.drain()
            await connection.is_open.wait()
        client.close()


class SocketLink(Link):
    """The same between Unix sockets; the engine behind it can also be gone."""

    def __init__(self, loop: Loop, target: str, path: Path) -> None:
        self.path = path
        self._gone = False
        super().__init__(loop, target)

    @contextlib.contextmanager
    def gone(self) -> Iterator[None]:
        """For the length of the block, nobody answers any more, and all connections are broken."""
        self._gone = True
        self.cut()
        try:
            yield
        finally:
            self._gone = False

    async def _listen(self) -> asyncio.Server:
        return await asyncio.start_unix_server(self._serve, self.path)

    async def _reach(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._gone:
            raise ConnectionRefusedError
        return await asyncio.open_unix_connection(str(self._target))


async def _cancel_all() -> None:
    others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
