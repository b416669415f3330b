"""Workflows from the command line to their end, on a real stack."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.conftest import Stack

DOCUMENT = """
name: squares
input: {numbers: [1, 2, 3]}
tasks:
  - key: list
    task_type: echo
    payload: {numbers: {$ref: input.numbers}}
  - key: square
    task_type: echo
    depends_on: [list]
    map: {$ref: tasks.list.result.numbers}
    payload: {of: {$ref: item}}
  - key: never
    task_type: echo
    depends_on: [list]
    when: {gt: [{$ref: 'tasks.list.result.numbers[0]'}, 100]}
    payload: {}
    on_failure: continue
  - key: report
    task_type: echo
    depends_on: [square, never]
    payload: {squares: {$ref: tasks.square.result.items}}
"""


@pytest.fixture
def document(tmp_path: Path) -> str:
    """A file with a workflow."""
    path = tmp_path / "squares.yaml"
    path.write_text(DOCUMENT)
    return str(path)


def drawn(stack: Stack, workflow_id: str) -> dict[str, Any]:
    shown = stack.run("clawq", "workflow", "graph", workflow_id, "--json")
    assert shown.returncode == 0, shown.stderr
    return dict(json.loads(shown.stdout))


def test_a_workflow_is_watched_to_its_end(stack: Stack, document: str) -> None:
    ran = stack.run("clawq", "workflow", "run", document, "--watch", "--json")
    assert ran.returncode == 0, ran.stderr
    workflow = json.loads(ran.stdout)
    assert (workflow["status"], workflow["progress"]) == ("succeeded", 100)
    graph = drawn(stack, workflow["id"])
    nodes = {node["key"]: node for node in graph["nodes"]}
    assert {key: node["status"] for key, node in nodes.items()} == {
        "list": "succeeded", "square": "succeeded", "square[0]": "succeeded", "square[1]": "succeeded",
        "square[2]": "succeeded", "never": "skipped", "report": "succeeded",
    }  # fmt: skip
    assert ["never", "report"] in graph["edges"]
    assert graph["critical_path"][-1] == "report"
    assert stack.get(f"/tasks/{nodes['report']['task_id']}")["result"] == {"squares": [{"of": n} for n in (1, 2, 3)]}


def test_a_workflow_that_fails_is_run_again_with_another_input(stack: Stack, document: str) -> None:
    ran = stack.run("clawq", "workflow", "run", document, "--watch", "--input", '{"numbers": 7}')
    assert ran.returncode == 1
    assert "workflow failed" in ran.stderr.replace("  ", " ")
    (failed, *_) = stack.get("/workflows", status="failed", name="squares")["items"]
    again = stack.run("clawq", "workflow", "rerun", failed["id"], "--input", '{"numbers": [5]}')
    assert again.returncode == 0, again.stderr
    watched = stack.run("clawq", "workflow", "show", again.stdout.strip(), "--watch")
    assert watched.returncode == 0, watched.stderr
    assert stack.get(f"/workflows/{again.stdout.strip()}")["rerun_of"] == failed["id"]
