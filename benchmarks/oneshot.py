"""One container a program, started when it is wanted: what sandboxes that wait are measured against.

Both ways get what `workers.sandbox.profile` gives to ours, so that the work of the engine is the same.
"""

from __future__ import annotations

import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from workers.sandbox import profile
from workers.sandbox.profile import Profile, options

#: What every run of these measurements does.
CODE = "print(1)"
_COMMAND = ["python3", "-c", CODE]
_LABELS = {"clawq.bench": "one-shot"}


def by_command(api: Any, image: str) -> float:
    """`docker run --rm` with our flags. Returns milliseconds until the command has ended."""
    wanted = options(api, Profile(image=image), _LABELS)
    command = ["docker", "run", "--rm", "--network", "none", *_flags(wanted), image, *_COMMAND]
    began = time.perf_counter()
    _expect(subprocess.run(command, check=True, capture_output=True).stdout)
    return (time.perf_counter() - began) * 1000


def by_sdk(api: Any, image: str) -> tuple[float, float]:
    """The fewest calls of the engine's API that will do. Returns milliseconds: all of them; up to the output's end."""
    wanted = options(api, Profile(image=image), _LABELS)
    began = time.perf_counter()
    container = api.create_container(**{**wanted, "entrypoint": None, "command": _COMMAND, "stdin_open": False})["Id"]
    stream = api.attach(container, stdout=True, stderr=True, stream=True)
    api.start(container)
    output = b"".join(stream)
    ended = time.perf_counter()
    api.wait(container)
    api.remove_container(container, v=True)
    _expect(output)
    return (time.perf_counter() - began) * 1000, (ended - began) * 1000


def many_by_sdk(api: Any, image: str, count: int, parallel: int) -> float:
    """`count` of them, `parallel` at once. Returns seconds."""
    began = time.perf_counter()
    with ThreadPoolExecutor(parallel) as pool:
        list(pool.map(lambda _: by_sdk(api, image), range(count)))
    return time.perf_counter() - began


def _flags(wanted: dict[str, Any]) -> list[str]:
    """The command's flags for what the API is asked for."""
    host = wanted["host_config"]
    return [
        *("--user", wanted["user"], "--workdir", wanted["working_dir"], "--hostname", wanted["hostname"]),
        *("--label", "clawq.bench=one-shot", "--no-healthcheck", "--read-only", "--ipc", host["IpcMode"]),
        *("--memory", str(host["Memory"]), "--memory-swap", str(host["MemorySwap"])),
        *("--pids-limit", str(host["PidsLimit"]), "--cpus", str(host["NanoCpus"] / 1e9)),
        *("--shm-size", str(host["ShmSize"]), "--log-driver", host["LogConfig"]["Type"], "--cap-drop", "ALL"),
        *("--security-opt", "no-new-privileges", "--security-opt", f"seccomp={_seccomp()}"),
        *(f"--tmpfs={path}:{how}" for path, how in host["Tmpfs"].items()),
        *(f"--ulimit={u['Name']}={u['Soft']}:{u['Hard']}" for u in host["Ulimits"]),
    ]


def _seccomp() -> Path:
    return Path(profile.__file__).with_name("seccomp.json")


def _expect(output: bytes) -> None:
    if output != b"1\n":
        raise RuntimeError(f"the program printed {output!r}")
