"""Messages as a user has them: written, followed and acknowledged from the command line."""

from __future__ import annotations

import json
from typing import Any

from tests.acceptance.conftest import Stack


def told(stack: Stack, *argv: str) -> Any:
    """What a command answers for programs, the last line of it."""
    ended = stack.run("clawq", *argv, "--json")
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout.splitlines()[-1])


def test_what_one_agent_writes_another_reads_until_it_is_acknowledged(stack: Stack) -> None:
    agent = {"role": "finder", "goal": "Find water.", "agent_type": "researcher"}
    scout, chief = (stack.post("/agents", {"name": name, **agent})["id"] for name in ("scout", "chief"))
    with stack.start("clawq", "messages", "inbox", chief, "--follow", "--json") as reader:
        try:
            sent = told(stack, "messages", "send", "Water, 3 km north.", "--from", scout, "--to", chief)
            assert reader.stdout
            read = json.loads(reader.stdout.readline())
        finally:
            reader.kill()
    assert (read["id"], read["seq"], read["content"]) == (sent["id"], 1, "Water, 3 km north.")
    assert told(stack, "messages", "ack", sent["id"])["status"] == "received"
    assert stack.get(f"/agents/{chief}/inbox")["items"] == []
