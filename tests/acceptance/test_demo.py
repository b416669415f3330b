"""`clawq demo`, as a new user runs it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from tests.acceptance.conftest import PROGRAMS, ROOT


def test_the_demo_runs_real_work_and_leaves_nothing_running(tmp_path: Path) -> None:
    env = {name: value for name, value in os.environ.items() if not name.startswith(("CLAWQ_", "DATABASE", "REDIS"))}
    env |= {"CLAWQ_HOME": str(tmp_path / "home")}
    demo = subprocess.run([PROGRAMS / "clawq", "demo"], cwd=ROOT, env=env, capture_output=True, text=True, timeout=180)
    assert demo.returncode == 0, demo.stdout + demo.stderr
    assert "longest chain: 104.8 s in 9 steps" in demo.stdout
    assert "ALLOWED" not in demo.stdout
    assert demo.stdout.count("succeeded") == 4
    assert ".venv/bin/clawq show ID" in demo.stdout
    status = subprocess.run([PROGRAMS / "clawq", "status"], cwd=ROOT, env=env, capture_output=True, text=True)
    assert "No stack is running" in status.stdout
