"""Sockets: how soon a client hears of what happened, a crowd that follows, and one that is only there.

The client is this process, on the same machine: what it takes is in the figures.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import threading
import time
from datetime import datetime
from typing import Any

import psutil
from websockets.asyncio.client import ClientConnection, connect

from benchmarks.aims import Aim, show
from benchmarks.client import Client
from benchmarks.setting import Stack, stack

TASKS = 200
IDLE = 1000
CROWD, FOLLOWED = 200, 250
_ECHO = {"task_type": "echo", "payload": {}}
#: Sockets that are opened at once.
_DOORS = 20


async def enter(where: Stack, ws_url: str) -> ClientConnection:
    """A socket that has said who it is."""
    socket = await connect(ws_url, proxy=None, compression=None, open_timeout=60, ping_interval=None)
    await ask(socket, {"op": "auth", "key": where.api_key})
    return socket


async def ask(socket: ClientConnection, frame: dict[str, Any]) -> dict[str, Any]:
    """Send a frame; the answer must be an acknowledgement."""
    await socket.send(json.dumps(frame))
    answer: dict[str, Any] = json.loads(await socket.recv())
    if answer["type"] != "ack":
        raise RuntimeError(answer)
    return answer


async def delays(where: Stack, ws_url: str) -> list[float]:
    """Milliseconds from an event's time, the start of its transaction, to its receipt; one task at a time."""
    found = []
    async with await enter(where, ws_url) as socket:
        for number in range(TASKS + 20):
            task_id = (await ask(socket, {"op": "submit", "task": _ECHO}))["task_id"]
            await ask(socket, {"op": "subscribe", "task_id": task_id})
            for _ in range(4):
                event = json.loads(await socket.recv())
                waited = time.time() - datetime.fromisoformat(event["at"]).timestamp()
                # What was written before somebody followed says nothing.
                if number >= 20 and event["kind"] == "succeeded":
                    found.append(waited * 1000)
            await ask(socket, {"op": "unsubscribe", "task_id": task_id})
    return found


async def crowd(where: Stack, ws_url: str) -> tuple[float, list[float]]:
    """Frames a second to a crowd that follows one workflow, and milliseconds to the receipt of each."""
    client = Client(where.api_url, where.api_key)
    step = _ECHO | {"delay_s": 5}
    document = {"name": "wide", "tasks": [step | {"key": f"k{n}"} for n in range(FOLLOWED)]}
    flow = client.call("POST", "/api/v1/workflows", document)["id"]
    waits: list[float] = []
    began: list[float] = []

    async def follow(socket: ClientConnection) -> None:
        await ask(socket, {"op": "subscribe", "workflow_id": flow})
        for _ in range(4 * FOLLOWED):
            event = json.loads(await socket.recv())
            if event["kind"] != "accepted":
                at = datetime.fromisoformat(event["at"]).timestamp()
                began.append(at)
                waits.append((time.time() - at) * 1000)

    sockets = await many(where, ws_url, CROWD)
    await asyncio.gather(*(follow(socket) for socket in sockets))
    seconds = time.time() - min(began)
    await asyncio.gather(*(socket.close() for socket in sockets))
    return len(waits) / seconds, waits


async def idle(where: Stack, ws_url: str) -> tuple[float, float, list[float]]:
    """MiB of the process before and with so many sockets, and milliseconds of GET /health beside them."""
    process = psutil.Process(where.pids["ws"])
    members = [process, *process.children(recursive=True)]
    before = sum(p.memory_info().rss for p in members) / 2**20
    sockets = await many(where, ws_url, IDLE)
    after = sum(p.memory_info().rss for p in members) / 2**20
    waits: list[float] = []

    def probe() -> None:
        client = Client(ws_url.replace("ws://", "http://").removesuffix("/ws"), where.api_key)
        request = client.request("GET", "/health")
        for _ in range(200):
            began = time.perf_counter()
            client.send(request)
            waits.append((time.perf_counter() - began) * 1000)

    thread = threading.Thread(target=probe)
    thread.start()
    await asyncio.to_thread(thread.join)
    await asyncio.gather(*(socket.close() for socket in sockets))
    return before, after, waits


async def many(where: Stack, ws_url: str, count: int) -> list[ClientConnection]:
    """So many sockets."""
    doors = asyncio.Semaphore(_DOORS)

    async def one() -> ClientConnection:
        async with doors:
            return await enter(where, ws_url)

    return list(await asyncio.gather(*(one() for _ in range(count))))


def late(waits: list[float]) -> float:
    """The 95th percentile."""
    return sorted(waits)[int(len(waits) * 0.95)]


def main() -> None:
    """Measure, and print Markdown."""
    with stack() as where:
        told = json.loads(where.run("clawq", "status", "--json"))
        ws_url = told["ws_url"]
        soon = asyncio.run(delays(where, ws_url))
        before, after, health = asyncio.run(idle(where, ws_url))
        rate, waits = asyncio.run(crowd(where, ws_url))
    print("| | |\n| --- | ---: |")
    print(f"| from a write to its receipt, ms: median | {statistics.median(soon):.1f} |")
    print(f"| 95th percentile | {late(soon):.1f} |")
    print(f"| {CROWD} followers of one workflow of {FOLLOWED} tasks: frames a second | {rate:,.0f} |")
    print(f"| from a write to its receipt there, ms: median | {statistics.median(waits):.0f} |")
    print(f"| 95th percentile | {late(waits):.0f} |")
    print(f"| {IDLE} idle sockets: MiB before | {before:.0f} |")
    print(f"| MiB with them | {after:.0f} |")
    print(f"| GET /health beside them, ms: median | {statistics.median(health):.1f} |")
    show(
        [
            Aim("a write to its receipt, median", statistics.median(soon), 20, " ms"),
            Aim(f"GET /health beside {IDLE} sockets, the slowest", max(health), 100, " ms"),
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
