"""Memory as a user has it: the command line, tasks, files, and an index that is built anew while searches go on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.acceptance.conftest import Stack
from tests.support import eventually


def told(stack: Stack, *argv: str) -> Any:
    """What a command answers for programs."""
    ended = stack.run("clawq", "memory", *argv, "--json")
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout)


def test_what_is_remembered_is_found_carried_away_and_brought_back(stack: Stack, tmp_path: Path) -> None:
    scope = ("--user", "grace")
    old = told(stack, "add", "Grace drinks green tea.", *scope)["id"]
    told(stack, "add", "Grace prefers coffee to tea since June.", *scope, "--supersedes", old)
    told(stack, "add", "The library opens at nine on weekdays.", *scope, "--metadata", '{"kind": "place"}')
    found = told(stack, "search", "when does the library open", *scope)["items"]
    assert found[0]["content"].startswith("The library")
    assert told(stack, "search", "tea", *scope, "--filter", '{"kind": "place"}', "--mode", "keyword")["items"] == []
    for name in ("before", "after"):
        assert told(stack, "export", str(tmp_path / name), *scope)["exported"] == 3
        if name == "before":
            assert told(stack, "forget", *scope, "--yes") == {"forgotten": 3}
            assert told(stack, "search", "library", *scope)["items"] == []
            imported = told(stack, "import", str(tmp_path / name))
            assert imported == {"created": 3, "duplicate_of": 0, "unlinked": 0}
    assert (tmp_path / "before").read_text() == (tmp_path / "after").read_text()


def test_the_index_is_built_anew_and_holds_what_it_should(stack: Stack, tmp_path: Path) -> None:
    lines = [{"memory_type": "semantic", "content": f"Fact number {n} of many."} for n in range(1500)]
    (tmp_path / "facts").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert told(stack, "import", str(tmp_path / "facts"))["created"] == 1500
    before = told(stack, "status")["active"]["id"]
    after = told(stack, "rebuild")
    assert after["active"]["id"] != before
    assert after["building"] is None
    eventually(lambda: told(stack, "status")["pending"] == 0)
    assert told(stack, "verify")["differences"] == 0
    assert "0 missing, 0 ghosts" in stack.run("clawq", "memory", "verify").stdout


def test_a_workflow_remembers_and_asks(stack: Stack) -> None:
    tasks = [
        {"key": "keep", "task_type": "memory.store",
         "payload": {"memory_type": "episodic", "content": {"$ref": "input.text"}, "user_id": "flow"}},
        {"key": "ask", "task_type": "memory.search", "depends_on": ["keep"],
         "payload": {"query": "what broke", "user_id": "flow"}},
        {"key": "drop", "task_type": "memory.forget", "depends_on": ["ask"],
         "payload": {"ids": [{"$ref": "tasks.keep.result.id"}]}},
    ]  # fmt: skip
    flow = stack.post("/workflows", {"name": "m", "input": {"text": "The pump broke on Monday."}, "tasks": tasks})
    ended = eventually(
        lambda: found if (found := stack.get(f"/workflows/{flow['id']}", wait=20))["completed_at"] else None
    )
    assert ended["status"] == "succeeded", ended["error"]
    results = {t["key"]: t["result"] for t in stack.get("/tasks", workflow_id=flow["id"])["items"]}
    assert [hit["id"] for hit in results["ask"]["items"]] == [results["keep"]["id"]]
    assert results["drop"]["forgotten"] == 1
