"""Rules of the house: who commits, who prints, how long a file may be, and what .env.example says."""

from __future__ import annotations

import ast
import json
import re
from itertools import pairwise

import pytest
from pydantic import AliasChoices, SecretStr

from app.settings import Settings
from tests.architecture.sources import ROOT, calls, files, imports, tree

_MOST_LINES = 320
#: The design's own names, which carry no prefix.
CANONICAL = {"DATABASE_URL", "REDIS_URL", "LOG_LEVEL", "AGENT_ID", "AGENT_TYPE", "DOCKER_ENABLED", "VECTOR_DB_URL"}
#: Their standard output is read by another process.
PRINTERS = ("app/cli/", "app/local/supervisor.py")
#: Opens its own connection, before there is a process that serves.
COMMITTERS = ("app/db.py", "app/keys.py", "schema/migrate.py")


def test_verbs_never_commit() -> None:
    offenders = [
        f"{path}:{line}"
        for path in files()
        if not str(path).startswith(COMMITTERS)
        for name, line in calls(path)
        if name in ("commit", "rollback")
    ]
    assert offenders == []


_VERBS = (("app", "tasks"), ("app", "workflows"), ("app", "messages"))
_NOUNS = ("app/agents.py", "app/sessions.py", "app/groupchats.py")
_OPENERS = ("transaction", "statements", "single", "begin")


def test_transactions_are_opened_at_the_edge() -> None:
    verbs = [path for path in files() if path.parts[:2] in _VERBS or str(path) in _NOUNS]
    assert len(verbs) > 10
    opened = [f"{path}:{line}" for path in verbs for name, line in calls(path) if name in _OPENERS]
    assert opened == []


def test_only_the_command_line_prints() -> None:
    printed = [
        f"{path}:{line}"
        for path in files()
        if not str(path).startswith(PRINTERS)
        for name, line in calls(path)
        if name == "print"
    ]
    assert printed == []


def test_no_file_is_longer_than_one_can_hold_in_mind() -> None:
    lengths = {str(path): len((ROOT / path).read_text().splitlines()) for path in files()}
    generated = "schema/migrations/versions/"
    assert {p: n for p, n in lengths.items() if n > _MOST_LINES and not p.startswith(generated)} == {}


def test_no_clock_but_postgres_decides_when_a_task_is_due() -> None:
    tellers = [
        f"{path}:{line}"
        for path in files()
        if path.parts[:2] in _VERBS
        for name, line in calls(path)
        if name in ("utcnow", "now", "today", "time", "monotonic")
    ]
    assert tellers == []


def test_every_file_says_what_it_is() -> None:
    written = [path for path in files() if (ROOT / path).read_text().strip()]
    silent = [str(path) for path in written if not ast.get_docstring(tree(path))]
    assert silent == []


def test_nothing_is_pickled_but_what_goes_into_a_sandbox() -> None:
    """Where both ends are ours; what comes out of one is JSON."""
    inwards = {f"workers/sandbox/{name}.py" for name in ("job", "profile", "supervisor")}
    assert {str(path) for path in files() if {"pickle", "marshal", "shelve"} & set(imports(path))} == inwards


def example() -> dict[str, tuple[str, str]]:
    """Name → (description, default) of .env.example, where every setting is commented out."""
    found: dict[str, tuple[str, str]] = {}
    lines = (ROOT / ".env.example").read_text().splitlines()
    for above, line in pairwise(lines):
        if match := re.fullmatch(r"# ([A-Z_]+)=(.*)", line):
            assert match[1] not in found, f"{match[1]} is there twice"
            found[match[1]] = (above.removeprefix("# "), match[2])
    return found


def documented() -> dict[str, tuple[str, str]]:
    """What .env.example has to say, from Settings."""
    wanted = {}
    for field, info in Settings.model_fields.items():
        alias = info.validation_alias
        name = str(alias.choices[0]) if isinstance(alias, AliasChoices) else f"CLAWQ_{field.upper()}"
        default = info.default
        wanted[name] = (info.description or "", shown(default))
    return wanted


def shown(default: object) -> str:
    """A default as the environment would say it."""
    if isinstance(default, bool | dict):
        return json.dumps(default)
    return "" if default is None or default == () else str(default)


def test_env_example_equals_settings() -> None:
    assert example() == documented()
    assert list(example()) == list(documented()), "in the same order"


def test_env_example_sets_nothing_by_itself() -> None:
    lines = (ROOT / ".env.example").read_text().splitlines()
    assert [line for line in lines if line and not line.startswith("#")] == []


def test_every_setting_is_described_and_named_as_agreed() -> None:
    assert [name for name, (description, _) in documented().items() if not description] == []
    plain = {name for name in documented() if not name.startswith("CLAWQ_")}
    assert plain == CANONICAL


@pytest.mark.parametrize(
    "field", [name for name in Settings.model_fields if re.search("(?<!api_)url|key|secret|pass", name)]
)
def test_a_setting_that_may_hold_a_secret_is_kept_as_one(field: str) -> None:
    assert SecretStr in getattr(Settings.model_fields[field].annotation, "__args__", ())
