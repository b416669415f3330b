"""The workflows in examples/, as their first lines say that they are run, and what they find."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from app.documents import parse_yaml
from tests.acceptance.conftest import ROOT, Stack

EXAMPLES = ROOT / "examples" / "workflows"


def ran(stack: Stack, name: str, *more: str) -> dict[str, Any]:
    """Run an example to its good end; its tasks by key."""
    done = stack.run("clawq", "workflow", "run", str(EXAMPLES / name), "--watch", "--json", *more)
    assert done.returncode == 0, done.stdout + done.stderr
    page = stack.get("/tasks", workflow_id=json.loads(done.stdout)["id"], limit=100)
    return {task["key"]: task for task in page["items"]}


def test_the_tutorial_s_workflow_ranks_the_kinds_of_a_pipeline(stack: Stack) -> None:
    tasks = ran(stack, "pipeline-times.yaml", "--input", "examples/demo/epigenomics.json")
    report = tasks["report"]["result"]["stdout"].splitlines()
    assert report[1].split() == ["map", "9", "89.1%", "7.81", "s"]
    assert report[-1] == "Look at map first."
    # Three kinds ran only once, and one number has no spread.
    assert [place for place, item in enumerate(tasks["measure"]["result"]["items"]) if item is None] == [0, 2, 6]
    artifacts = stack.get(f"/tasks/{tasks['report']['id']}/artifacts")["items"]
    assert [artifact["name"] for artifact in artifacts] == ["report.txt"]


def test_the_tutorial_s_workflow_does_without_its_warning(stack: Stack) -> None:
    given = json.loads((ROOT / "examples" / "demo" / "epigenomics.json").read_text()) | {"most": 0.9}
    tasks = ran(stack, "pipeline-times.yaml", "--input", json.dumps(given))
    assert tasks["warn"]["status"] == "skipped"
    assert tasks["report"]["result"]["stdout"].endswith("No kind stands out.\n")


def test_the_parts_of_the_longest_chain_are_joined(stack: Stack) -> None:
    tasks = ran(stack, "longest-chain.yaml")
    # Number 2 of the three parts holds the best known below 60,000.
    assert json.loads(tasks["join"]["result"]["stdout"]) == {"part": 2, "number": 52527, "steps": 339}


@pytest.mark.parametrize(
    ("first_is_down", "published", "complaint"), [(True, "second: 8", "succeeded"), (False, "first: 7", "skipped")]
)
def test_the_second_source_stands_in_for_the_first(
    stack: Stack, first_is_down: bool, published: str, complaint: str
) -> None:
    tasks = ran(stack, "second-source.yaml", "--input", json.dumps({"first_is_down": first_is_down}))
    assert tasks["publish"]["result"]["stdout"].strip() == published
    assert tasks["complain"]["status"] == complaint
    assert tasks["first"]["attempt"] == (2 if first_is_down else 1)


def test_the_tutorial_builds_the_file_that_is_in_examples() -> None:
    tutorial = (ROOT / "docs" / "workflows.md").read_text().partition("## Tutorial")[2].partition("\n## ")[0]
    blocks = re.findall(r"(?m)(?:^ {4}.*\n)+", tutorial)
    built = parse_yaml("".join(re.sub("(?m)^ {4}", "", block) for block in blocks if "- key:" in block))
    assert "        on_failure: continue\n" in blocks, "the policy that step 3 adds"
    built["tasks"][1]["on_failure"] = "continue"
    assert built == parse_yaml((EXAMPLES / "pipeline-times.yaml").read_text())
