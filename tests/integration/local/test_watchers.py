from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path

import pytest

from app.errors import SettingsError
from app.local.logfiles import tail
from app.local.procfile import Line
from app.local.watchers import Watched


def watched(tmp_path: Path, program: str, grace_s: float = 5) -> Watched:
    (tmp_path / "program.py").write_text(program)
    line = Line("web", f"'{sys.executable}' '{tmp_path}/program.py'")
    return Watched.line(line, {}, tmp_path, tmp_path / "web.log", grace_s)


def test_the_last_words_of_a_process_reach_its_log(tmp_path: Path) -> None:
    async def live_and_die() -> Watched:
        process = watched(tmp_path, "print('x' * 30_000); raise SystemExit('last words')")
        await process.start()
        # The loop must not get to read before the process is found dead: no await in this wait.
        deadline = time.monotonic() + 10
        while process.is_alive() and time.monotonic() < deadline:
            time.sleep(0.02)
        await process.keep()
        await process.stop()
        return process

    process = asyncio.run(live_and_die())
    assert tail(process.log, 1) == ["last words"]
    assert process.exits == 1


def test_a_process_that_keeps_ending_is_started_with_pauses(tmp_path: Path) -> None:
    async def watch(seconds: float) -> Watched:
        process = watched(tmp_path, "")
        await process.start()
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            await process.keep()
            await asyncio.sleep(0.01)
        await process.stop()
        return process

    # Without pauses there would be dozens.
    assert asyncio.run(watch(2.5)).exits in (2, 3)


def test_a_process_that_ignores_the_request_is_killed(tmp_path: Path) -> None:
    deaf = "import signal, time; signal.signal(15, signal.SIG_IGN); print('deaf', flush=True); time.sleep(60)"

    async def live_and_die() -> Watched:
        process = watched(tmp_path, deaf, grace_s=0.3)
        await process.start()
        async with asyncio.timeout(20):
            while not tail(process.log):
                await asyncio.sleep(0.02)
        await process.stop()
        return process

    process = asyncio.run(live_and_die())
    assert not process.is_alive()
    assert process.member().state == "stopped"


def test_an_unknown_program_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="web: there is no program nothing-of-this-name"):
        Watched.line(Line("web", "nothing-of-this-name"), {}, tmp_path, tmp_path / "web.log", grace_s=1)
