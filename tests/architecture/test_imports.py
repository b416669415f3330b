"""Imports point one way, and each heavy library has one home."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.architecture.sources import ROOT, files, imports

#: library → the only place that may import it.
HOMES = {
    "flask": ("api/",),
    "flask_sock": ("api/",),
    "flask_openapi": ("api/",),
    "werkzeug": ("api/",),
    "docker": ("workers/sandbox/",),
    "sandlock": ("workers/sandbox/",),
    "chromadb": ("app/memory/chroma.py",),
    "yaml": ("app/documents.py",),
    "alembic": ("schema/",),
    "circus": ("app/local/",),
    "flower": ("app/flower.py",),
    "tornado": ("app/flower.py",),
    "typer": ("app/cli/",),
    "rich": ("app/cli/",),
}


def test_imports_point_one_way() -> None:
    # A process of its own: the linter sets up logging, and disables every logger that is there.
    linter = Path(sys.executable).parent / "lint-imports"
    shown = subprocess.run([linter, "--no-cache"], cwd=ROOT, capture_output=True, text=True)
    assert shown.returncode == 0, shown.stdout
    assert "1 kept" in shown.stdout, "the contract is there"


@pytest.mark.parametrize("library", HOMES)
def test_a_library_is_imported_in_its_home_alone(library: str) -> None:
    strangers = [
        str(path)
        for path in files()
        if not str(path).startswith(HOMES[library]) and any(name.split(".")[0] == library for name in imports(path))
    ]
    assert strangers == []


def test_the_supervisor_in_the_sandbox_needs_nothing_but_the_standard_library() -> None:
    own = {f"workers.sandbox.{name}" for name in ("collect", "frames", "lean", "meter", "program", "script")}
    todo, seen = ["workers.sandbox.supervisor"], set()
    while todo:
        module = todo.pop()
        seen.add(module)
        for name in imports((ROOT / module.replace(".", "/")).with_suffix(".py").relative_to(ROOT)):
            if name.startswith("workers."):
                assert name in own
                todo += [name] if name not in seen else []
            else:
                assert name.split(".")[0] in sys.stdlib_module_names, f"{module} imports {name}"
