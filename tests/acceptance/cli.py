"""`clawq` as a process, with a home and settings of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

CLAWQ = Path(sys.executable).with_name("clawq")
PORTS = dict.fromkeys(("CLAWQ_API_PORT", "CLAWQ_WS_PORT", "CLAWQ_FLOWER_PORT"), "0")
UP = ("up", "--background", "--json")
#: Options of a start that need not wait for everything.
LEAN = ("--without=ws", "--without=flower")


@dataclass
class Cli:
    """`clawq` with an environment of its own."""

    home: Path
    env: dict[str, str] = field(default_factory=dict)
    #: The role of each worker and what its /ready answered, at the moment when `running` was up.
    at_once: list[tuple[str, int]] = field(default_factory=list)

    def run(self, *args: str, **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([CLAWQ, *args], env=self._env(env), capture_output=True, text=True, timeout=240, cwd="/")

    def start(self, *args: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [CLAWQ, *args], env=self._env({}), text=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd="/"
        )

    def _env(self, more: dict[str, str]) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith("CLAWQ_") and not k.endswith("_URL")}
        return {**kept, "CLAWQ_HOME": str(self.home), **PORTS, **self.env, **more}

    def up(self, *options: str) -> dict[str, Any]:
        done = self.run(*UP, *options)
        assert done.returncode == 0, done.stderr
        (line,) = done.stdout.splitlines()
        found = json.loads(line)
        assert isinstance(found, dict)
        return found

    def refuses(self, *args: str, **env: str) -> str:
        """The one sentence with which the command ends."""
        done = self.run(*args, **env)
        assert done.returncode == 1, done.stdout
        assert "Traceback" not in done.stderr
        assert not done.stdout
        (line,) = done.stderr.strip().splitlines()
        return line
