"""The guard of a confined run: what it can see of a worker that ends."""

from __future__ import annotations

import os
import subprocess
import sys

from workers.sandbox.confined import _is_leaving


def test_a_process_that_lives_is_not_leaving() -> None:
    assert not _is_leaving(os.getpid())


def test_a_process_that_has_ended_is_leaving_until_its_parent_knows_and_after() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert _is_leaving(process.pid)
    assert _is_leaving(process.pid)
