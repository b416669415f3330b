"""Waiting until a stack that was started does its work: what listens answers, and every worker consumes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import httpx

from app.local import ports
from app.local.plan import StartFailed
from app.local.procfile import Line

_ANSWER_TIMEOUT_S = 120.0
_WORKERS_TIMEOUT_S = 60.0
_POLL_S = 0.1

#: The pids of the stack's processes by name; None while one does not run.
Pids = Callable[[], Mapping[str, int | None]]


async def wait_for_answer(name: str, probe: str, log_file: Path) -> None:
    """Wait until the process of this name says at `probe` that it is ready.

    Raises:
        StartFailed: it does not, within two minutes.
    """
    deadline = time.monotonic() + _ANSWER_TIMEOUT_S
    last = "no answer"
    async with _client() as client:
        while time.monotonic() < deadline:
            try:
                answer = await client.get(probe)
            except httpx.HTTPError as exc:
                last = str(exc) or type(exc).__name__
            else:
                if answer.status_code == httpx.codes.OK:
                    return
                last = f"{answer.status_code} {answer.text[:300]}"
            await asyncio.sleep(_POLL_S)
    raise StartFailed(f"{name} is not ready within {_ANSWER_TIMEOUT_S:.0f} s: {last}", log_file)


def workers_of(lines: tuple[Line, ...]) -> frozenset[str]:
    """The names of the lines that start a Celery worker."""
    return frozenset(line.name for line in lines if {"celery", "worker"} <= set(line.command.split()))


async def wait_for_workers(
    api_url: str,
    key: str,
    names: frozenset[str],
    pids: Pids,
    log_of: Callable[[str], Path],
    timeout_s: float | None = None,
) -> None:
    """Wait until each of these processes is registered as a worker and consumes its queue.

    They are known by their pids: a killed run's workers stay on the list for a while, under the same names.

    Raises:
        StartFailed: one does not, within a minute; names all that do not.
    """
    timeout_s = _WORKERS_TIMEOUT_S if timeout_s is None else timeout_s
    deadline = time.monotonic() + timeout_s
    missing = names
    async with _client() as client:
        while missing and time.monotonic() < deadline:
            ports_of = await _registered(client, api_url, key)
            at_work = {
                n for n in missing if (pid := pids().get(n)) in ports_of and await _consumes(client, ports_of[pid])
            }
            missing = missing - at_work
            if missing:
                await asyncio.sleep(_POLL_S)
    if missing:
        who = ", ".join(sorted(missing))
        raise StartFailed(f"Workers that take no work within {timeout_s:.0f} s: {who}.", log_of(min(missing)))


def _client() -> httpx.AsyncClient:
    return httpx.AsyncClient(timeout=5, trust_env=False)


async def _registered(client: httpx.AsyncClient, api_url: str, key: str) -> dict[int | None, int]:
    """The health ports of the workers on the API's list, by pid."""
    try:
        headers = {"Authorization": f"Bearer {key}"}
        answer = await client.get(f"{api_url}/api/v1/workers", params={"limit": 1000}, headers=headers)
        workers: list[dict[str, Any]] = answer.raise_for_status().json()["items"]
        return {worker["info"]["pid"]: worker["info"]["health_port"] for worker in workers}
    except (httpx.HTTPError, ValueError, KeyError):
        return {}


async def _consumes(client: httpx.AsyncClient, port: int) -> bool:
    try:
        return (await client.get(f"http://{ports.LOOPBACK}:{port}/ready")).is_success
    except httpx.HTTPError:
        return False
