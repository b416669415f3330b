"""The supervisor as one piece of source, so that a sandbox needs nothing of ours but a Python interpreter."""

from __future__ import annotations

import inspect
from functools import cache
from types import ModuleType

from workers.sandbox import frames, supervisor


@cache
def bundle(*extra: ModuleType) -> str:
    """frames, supervisor and `extra` in this order as one script that calls the last one's main()."""
    lines = ["from __future__ import annotations"]
    for module in (frames, supervisor, *extra):
        lines += [line for line in inspect.getsource(module).splitlines() if not _is_bundled(line)]
    return "\n".join([*lines, "main()", ""])


def _is_bundled(line: str) -> bool:
    return line.startswith(("from __future__", "from workers.sandbox."))
