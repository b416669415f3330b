"""Whatever Bob types with ids of Ada's is answered as with ids of nobody's, and no command shows anything of hers."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
import typer

from app.cli import main as entry
from app.settings import settings
from tests.things import AGENT, Things, things_of
from tests.worlds import TABLES

NOBODY = "0190f3a0-0000-7000-8000-000000000000"
#: Commands of the machine's own stack, and those that only administrators may give.
LOCAL = {"up", "down", "status", "doctor", "migrate", "demo", "memory rebuild", "memory vacuum", "memory verify"}
#: Command → ways to name something, as the kinds of ids that tests/things.py has.
NAMES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "submit": ("-c 1 --after {task_id}",),
        "tasks": ("", "--q {task_id}"),
        "show": ("{task_id}",),
        "logs": ("{task_id}", "-f {task_id}"),
        "cancel": ("{task_id}",),
        "watch": ("{task_id}", "{workflow_id}"),
        "artifacts": ("{task_id}", "{task_id} {name}"),
        "workflow run": (),
        "workflow list": ("", "--name {workflow_id}"),
        "workflow show": ("{workflow_id}", "{workflow_id} --watch"),
        "workflow graph": ("{workflow_id}",),
        "workflow cancel": ("{workflow_id}",),
        "workflow pause": ("{workflow_id}",),
        "workflow resume": ("{workflow_id}",),
        "workflow retry": ("{workflow_id}",),
        "workflow rerun": ("{workflow_id}",),
        "memory add": ("tea --session {session_id}", "tea --supersedes {memory_id}"),
        "memory search": ("tea", "tea --session {session_id}"),
        "memory list": ("", "--session {session_id}"),
        "memory show": ("{memory_id}",),
        "memory history": ("{memory_id}",),
        "memory forget": ("{memory_id} --yes", "--session {session_id} --yes"),
        "memory consolidate": ("--session {session_id}",),
        "memory export": ("{file} --force", "{file} --force --session {session_id}"),
        "memory import": (),
        "memory status": ("",),
        "agents list": ("",),
        "agents show": (),
        "agents create": (),
        "agents update": (),
        "agents delete": (),
        "sessions list": ("", "--user {session_id}"),
        "sessions show": ("{session_id}",),
        "sessions create": (),
        "sessions close": ("{session_id}",),
        "sessions delete": ("{session_id}",),
        "groupchats list": ("", "--name {groupchat_id}"),
        "groupchats show": ("{groupchat_id}",),
        "groupchats create": (),
        "groupchats update": ("{groupchat_id} --name mine",),
        "groupchats delete": ("{groupchat_id}",),
        "messages send": (
            "hi --from {agent} --groupchat {groupchat_id}",
            "hi --from {agent} --to {agent} --session {session_id}",
        ),
        "messages list": ("", "--groupchat {groupchat_id}", "--session {session_id}", "--post {message_id}"),
        "messages show": ("{message_id}",),
        "messages inbox": ("{agent}",),
        "messages ack": ("{message_id}",),
        "keys create": (),
        "keys list": ("",),
        "keys revoke": ("{key_id}",),
    }
)


def commands(command: Any, path: tuple[str, ...] = ()) -> Iterator[str]:
    """Every command of the command line."""
    for name, inner in getattr(command, "commands", {}).items():
        yield from commands(inner, (*path, name))
    if not hasattr(command, "commands"):
        yield " ".join(path)


@pytest.fixture
def bob(
    port: int, key: Callable[..., str], clawq: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str]]:
    """What Bob sees of a command: its exit code, and all that it prints."""
    clawq.setenv("CLAWQ_API_URL", f"http://127.0.0.1:{port}")
    clawq.setenv("CLAWQ_API_KEY", key("bob"))
    settings.cache_clear()

    def run(*argv: str) -> tuple[int, str]:
        clawq.setattr(sys, "argv", ["clawq", *argv])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            entry.main()
        shown = capsys.readouterr()
        # The server logs to the same stream.
        told = [line for line in (shown.out + shown.err).splitlines() if not line.startswith('{"@timestamp"')]
        return int(ended.value.code or 0), "\n".join(told)

    return run


def test_every_command_is_typed() -> None:
    assert set(commands(typer.main.get_command(entry.app))) == LOCAL | set(NAMES)


def test_her_ids_are_nobody_s(bob: Callable[..., tuple[int, str]], clawq: pytest.MonkeyPatch, tmp_path: Path) -> None:
    hers = things_of("ada")
    before = hers.rows([table.name for table in TABLES])
    for command, ways in NAMES.items():
        for way in ways:
            for one, argv, nobody in _typed(hers, way, tmp_path):
                (code, said), (other_code, other_said) = bob(*command.split(), *argv), bob(*command.split(), *nobody)
                assert (code, said.replace(one, NOBODY)) == (other_code, other_said), (command, argv)
                assert hers.secret not in said, (command, argv)
                assert not [id_ for id_ in hers.own if id_ in said and id_ not in argv], (command, argv)
    assert hers.rows([table.name for table in TABLES]) == before


def _typed(hers: Things, way: str, place: Path) -> Iterator[tuple[str, list[str], list[str]]]:
    """A way with each of her ids, and with one that nobody has."""
    kind = next((kind for kind in hers.ids if f"{{{kind}}}" in way and kind not in ("name", "agent_id")), None)
    common = {"agent": AGENT, "name": "a.txt", "file": str(place / "export.jsonl")}
    for one in hers.ids[kind][:2] if kind else [NOBODY]:
        with_hers, with_none = (
            [part.format(**common, **({kind: each} if kind else {})) for part in way.split()] for each in (one, NOBODY)
        )
        yield one, with_hers, with_none
