"""Memory as a user has it: the command line, tasks, files, and an index that is built anew while searches go on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from app.embeddings.hashed import Hashed
from benchmarks.texts import sentences
from tests.acceptance.conftest import Stack
from tests.chaos.invariants import Inside
from tests.support import eventually
from tests.traces import traces


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


def test_what_is_forgotten_is_in_no_file_of_chroma_after_a_vacuum(stack: Stack) -> None:
    texts = sentences(20)
    batch = [{"memory_type": "semantic", "content": text} for text in texts]
    secret = stack.post("/memories/batch", {"memories": batch})["items"][0]["id"]
    vector = Hashed().embed(texts[:1])[0]
    eventually(lambda: told(stack, "status")["pending"] == 0)
    assert told(stack, "forget", secret, "--yes") == {"forgotten": 1}
    assert traces(stack.home / "chroma", secret, vector)
    before = stack.pid("chroma")
    with stack.start("clawq", "memory", "vacuum", "--json") as vacuum:
        # What searches that have begun get to end takes half a minute otherwise.
        hurry = "UPDATE memory_indexes SET activated_at = activated_at - interval '1 hour' WHERE status = 'retired'"
        eventually(lambda: Inside(stack.home).sql(hurry + " RETURNING id"), timeout=60)
        shown = vacuum.communicate(timeout=120)[0]
    assert vacuum.returncode == 0, shown
    assert json.loads(shown)["bytes_after"] > 0
    assert stack.pid("chroma") != before
    assert traces(stack.home / "chroma", secret, vector) == {}
    assert told(stack, "verify")["differences"] == 0
    found = told(stack, "search", texts[1], "--mode", "vector")
    assert found["items"][0]["content"] == texts[1]


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
