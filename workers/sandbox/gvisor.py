"""gVisor (the runtime `runsc`): a kernel of its own for every run, in user space, between the program and the host's.

What holds there is not what holds in a plain container. It lets a process kill PID 1 and write to the descriptors of
any process of the same user id, so the supervisor keeps a user id of its own: root of gVisor's kernel, nobody on the
host. The container's cgroup bounds gVisor itself. Our seccomp profile is for the host's kernel, which no program sees.
"""

from __future__ import annotations

from typing import Any

#: Memory that gVisor itself gets, MiB.
OWN_MEMORY = 32 << 20
#: Host threads of one run. They serve the program's, many for each; fewer and gVisor itself dies of its limit.
THREADS = 4096

UNENFORCED = (
    "the limit on files is one on their bytes, not on their number",
    "a program that sets out to exceeds the limit on processes, until memory ends it",
    "memory that runs out ends the whole sandbox, with output that was on its way",
)


def is_gvisor(runtime: str | None) -> bool:
    """Whether an engine's runtime is gVisor, by its name: `runsc`, `runsc-kvm`, `gvisor`."""
    return (runtime or "").startswith(("runsc", "gvisor"))


def default(info: dict[str, Any]) -> str | None:
    """The engine's default runtime, from its info, if that is gVisor: a run that names none must be treated so."""
    name = str(info.get("DefaultRuntime", ""))
    return name if is_gvisor(name) else None


def adapt(options: dict[str, Any], confinement: dict[str, Any]) -> None:
    """Change what a plain container is made with (its options, its host configuration) to what holds in gVisor."""
    options["user"] = "0:0"
    confinement["cap_add"] = ["SETUID", "SETGID"]
    confinement["mem_limit"] += OWN_MEMORY
    confinement["memswap_limit"] += OWN_MEMORY
    confinement["pids_limit"] = THREADS


def place(runtime: str | None) -> dict[str, Any]:
    """The fields of a result that say which runtime it comes from, and what that could not enforce."""
    return {"runtime": runtime, "unenforced": UNENFORCED if is_gvisor(runtime) else ()}
