"""The supervisor as one piece of source, so that a sandbox needs nothing of ours but a Python interpreter."""

from __future__ import annotations

import ast
import inspect
import threading
from functools import cache
from types import ModuleType

from workers.sandbox import collect, frames, lean, meter, program, script, supervisor

#: CPython 3.11.7 counts the depth of one parse into that of another thread's, and calls both broken.
_PARSING = threading.Lock()
_LEFT_OUT = ("__future__", "workers.", "typing", "collections.abc")


@cache
def bundle(*extra: ModuleType, path: str | None = None) -> str:
    """The supervisor, what it needs and `extra` as one script that calls the last main() among them.

    Args:
        path: a directory to import third-party packages from.
    """
    lines = ["from __future__ import annotations"]
    if path is not None:
        lines.append(f"import sys; sys.path.append({path!r})")
    for module in (lean, frames, meter, script, program, collect, supervisor, *extra):
        lines += _without_some_imports(inspect.getsource(module))
    # What main() returns in a forked script is called here, with nothing of ours below it on the stack.
    return "\n".join([*lines, "then = main()", "if then: then()", ""])


def _without_some_imports(source: str) -> list[str]:
    """What comes from this bundle itself; and names of types, which nobody reads in there, but which take 10 ms."""
    lines = source.splitlines()
    with _PARSING:
        parsed = ast.parse(source)
    for node in reversed(parsed.body):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(_LEFT_OUT):
            del lines[node.lineno - 1 : node.end_lineno]
    return lines
