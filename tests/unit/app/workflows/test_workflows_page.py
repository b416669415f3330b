"""What docs/workflows.md shows is so."""

from __future__ import annotations

import json
import re
from pathlib import Path
from textwrap import dedent

from app.documents import parse_yaml
from app.workflows import conditions, refs
from app.workflows.paths import MAX_PATH
from app.workflows.refs import Scope, TaskView

_PAGE = (Path(__file__).resolve().parents[4] / "docs/workflows.md").read_text(encoding="utf-8")


def section(title: str) -> str:
    """The text of a section."""
    (found,) = re.findall(rf"^## {title}\n(.*?)(?=^## |\Z)", _PAGE, re.DOTALL | re.MULTILINE)
    return found


def shown(title: str) -> list[str]:
    """The indented blocks of a section."""
    return [dedent(block) for block in re.findall(r"(?:^    .*\n)+", section(title), re.MULTILINE)]


def scope() -> Scope:
    """What the section on references starts from."""
    given = json.loads(shown("References")[0])
    tasks = {key: TaskView(**task) for key, task in given["tasks"].items()}
    return Scope(input=given["input"], tasks=tasks, workflow={"id": "w", "name": "w"})


def test_the_payload_with_references_is_run_as_shown() -> None:
    _, payload, run = shown("References")
    assert refs.problems_of(json.loads(payload), mapped=False) == []
    assert refs.resolve(json.loads(payload), scope()) == json.loads(run)


def test_the_condition_shown_is_one_and_can_be_decided() -> None:
    (text,) = shown("Conditions")
    condition = json.loads(text)
    assert conditions.problems_of(condition) == []
    assert conditions.holds(condition, scope())
    for index in range(len(condition["all"])):
        turned = [{"not": part} if at == index else part for at, part in enumerate(condition["all"])]
        assert not conditions.holds({"all": turned}, scope())


def test_the_yaml_shown_is_the_json_shown() -> None:
    written, read = shown("YAML")
    assert parse_yaml(written) == json.loads(read)


def test_every_operator_and_root_is_listed_with_the_bounds() -> None:
    table = "".join(line for line in section("Conditions").splitlines() if line.startswith("|"))
    for operator in conditions._OPERATORS:
        assert f"`{operator}`" in table or f'{{"{operator}": ' in table, operator
    for word in ("input", "tasks.KEY.result", "tasks.KEY.status", "workflow.id", "workflow.name", "item", "index"):
        assert f"`{word}`" in section("References")
    assert f"at most {conditions.MAX_TERMS} operators" in section("Conditions")
    assert f"at most {MAX_PATH} characters" in section("References")
    assert f"at most {refs.MAX_DEPTH} deep" in section("References")
    assert f"at most {refs.MAX_BROUGHT >> 20} MiB" in section("References")
