import ast
import inspect
from collections import Counter

from workers.sandbox import collect, confined, frames, meter, program, script, supervisor


def test_the_modules_of_the_bundle_share_no_name_but_main() -> None:
    """They become one module, where the later of two would silently win."""
    names = Counter(
        name
        for module in (frames, meter, script, program, collect, supervisor, confined)
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
