import ast
import inspect
import json
import signal
import subprocess
import sys
from collections import Counter

import pytest

from workers.sandbox import collect, confined, descendants, frames, lean, meter, program, script, supervisor
from workers.sandbox.lean import to_json
from workers.sandbox.source import bundle


def test_the_modules_of_the_bundle_share_no_name_but_main() -> None:
    """They become one module, where the later of two would silently win."""
    names = Counter(
        name
        for module in (lean, frames, meter, script, program, collect, supervisor, descendants, confined)
        for name in _defined(inspect.getsource(module))
    )
    assert [name for name, count in names.items() if count > 1] == ["main"]


def _defined(source: str) -> set[str]:
    names: set[str] = set()
    for node in ast.parse(source).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names |= {name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name)}
    return names


def test_a_cold_start_imports_next_to_nothing() -> None:
    """Each of these takes milliseconds of every container that nobody waits in."""
    looked = "import sys; print(*sys.modules)"
    code = bundle().replace("then = main()", looked).replace("if then: then()", "")
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True)
    heavy = {"re", "enum", "json", "collections", "functools", "contextlib", "selectors", "signal", "threading"}
    assert "_json" in done.stdout.split()
    assert not heavy & set(done.stdout.split())


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        0,
        -1.5,
        signal.SIGKILL,
        "",
        'a"\\\n\0ü\U0001f600\ud800',
        [],
        {},
        [1, [None, {"ü": "x"}]],
        {"a": {"b": [False]}},
    ],
)
def test_lean_json_is_json(value: object) -> None:
    assert json.loads(to_json(value)) == value
