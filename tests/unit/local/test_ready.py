from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from app.local import ready
from app.local.plan import ROOT, StartFailed
from app.local.procfile import Line, read
from app.local.ready import wait_for_answer, wait_for_workers, workers_of
from tests.unit.cli.conftest import serving

PIDS = {"gateway": 11, "execution": 12}


def wait(pids: Mapping[str, int | None], registered: Mapping[int, bool], timeout_s: float = 0.3) -> None:
    """Wait for two workers; `registered` are the pids on the API's list, and whether each consumes."""

    def api(_method: str, path: str) -> tuple[int, str]:
        if path.startswith("/api/v1/workers"):
            return 200, json.dumps({"items": [{"info": {"pid": p, "health_port": port(p)}} for p in registered]})
        return 200, "{}"

    with serving(api) as url:
        here = int(url.rpartition(":")[2])

        def port(pid: int) -> int:
            return here if registered[pid] else 1

        asyncio.run(
            wait_for_workers(url, "key", frozenset(PIDS), lambda: pids, lambda n: Path(f"{n}.log"), timeout_s=timeout_s)
        )


def test_workers_that_are_registered_and_consume_are_enough() -> None:
    wait(PIDS, {11: True, 12: True, 13: False}, timeout_s=20)


@pytest.mark.parametrize(
    ("pids", "registered"),
    [
        (PIDS, {12: True}),
        (PIDS, {11: False, 12: True}),
        # A killed run's worker is still on the list.
        ({"gateway": 21, "execution": 12}, {11: True, 12: True}),
        ({"gateway": None, "execution": 12}, {11: True, 12: True}),
    ],
)
def test_a_worker_that_takes_no_work_is_named(pids: Mapping[str, int | None], registered: Mapping[int, bool]) -> None:
    with pytest.raises(StartFailed, match=r"^Workers that take no work within 0 s: gateway\.$") as caught:
        wait(pids, registered)
    assert caught.value.log_file == Path("gateway.log")


def test_what_does_not_become_ready_is_named_with_its_last_word(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ready, "_ANSWER_TIMEOUT_S", 0.3)
    with serving(lambda *_: (503, "no Postgres")) as url:
        with pytest.raises(StartFailed, match=r"^ws is not ready within 0 s: 503 no Postgres$") as caught:
            asyncio.run(wait_for_answer("ws", f"{url}/ready", Path("ws.log")))
        assert caught.value.log_file == Path("ws.log")


def test_the_lines_of_workers_are_known() -> None:
    roles = {"gateway", "coordinator", "execution", "memory"}
    assert workers_of(tuple(read(ROOT / "Procfile"))) == roles
    assert workers_of((Line("worker", "sleep worker"),)) == frozenset()
