"""`clawq demo`: real work on a real input, from nothing to results in one command."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import typer
from rich.console import Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

import app as package
from app.cli import render
from app.cli.client import TERMINAL, Client, at
from app.local import control, doctor, logfiles
from app.local import home as homes
from app.local.listeners import LISTENERS
from app.local.plan import StartFailed
from app.settings import settings

app = typer.Typer()

#: examples/demo of the checkout: its README says what the input is and what the programs do.
_WORK = Path(package.__file__).parent.parent / "examples" / "demo"
_PROGRAMS = (
    ("summary.sh", "shell", "count what came in", ()),
    ("critical_path.py", "python", "find the longest chain", ("summary",)),
    ("schedule.py", "python", "search for a schedule", ("critical_path",)),
    ("snoop.py", "python", "behave badly", ()),
)
#: Seconds after which a demo that has not ended is a failure.
_PATIENCE_S = 180
_LOOK_S = 0.15


@app.command()
def demo() -> None:
    """Start a stack if none runs, post real work, show it live, print the results; stop what was started."""
    # A demo should not fail over a port that somebody else has.
    for listener in LISTENERS:
        os.environ.setdefault(listener.variable, "0")
    home = homes.open_home(settings().home)
    with _stack(home):
        client = Client()
        ids = _ids(client, _post(client))
        with Live(console=render.err, refresh_per_second=8, transient=True) as live:
            tasks = _follow(client, ids, live)
        _print_results(tasks)
        _print_next(home)
    if any(task["status"] != "succeeded" for task in tasks.values()):
        render.complain("A task of the demo did not succeed.")
        raise typer.Exit(1)


@contextmanager
def _stack(home: homes.Home) -> Iterator[None]:
    """The stack that runs in this home, or one for the length of the block."""
    if homes.is_held(home):
        render.err.print(f"Using the stack that runs in {home.path}.", style="dim")
        yield
        return
    # What a killed supervisor left would hold the ports and the data.
    control.stop(home, settings().drain_s)
    _check()
    began = time.monotonic()
    with control.Starting(home, leash=True, without=["ws", "flower"]) as starting:
        try:
            with render.status("starting the stack …"):
                _wait_until_ready(starting)
            render.err.print(f"Stack ready in {time.monotonic() - began:.1f} s, state in {home.path}.", style="dim")
            yield
        except StartFailed as exc:
            render.complain(exc.detail, logfiles.tail(exc.log_file))
            raise typer.Exit(1) from None
        finally:
            with render.status("stopping the stack …"):
                starting.stop()
                for _ in starting.events():
                    pass


def _check() -> None:
    """Say in one sentence what is missing, before anything starts."""
    failed = [check for check in doctor.examine(settings()) if check.state == "fail"]
    if failed:
        render.complain("The demo cannot run here.", [f"{check.name}: {check.detail}" for check in failed])
        raise typer.Exit(1)


def _wait_until_ready(starting: control.Starting) -> None:
    for event in starting.events():
        if event["event"] == "ready":
            return
    raise StartFailed("The stack stopped before it was ready.", None)


def _post(client: Client) -> str:
    """Post the programs as a workflow, each with the same input on stdin, and return its id."""
    tasks = [
        {
            "key": Path(name).stem,
            "task_type": task_type,
            "description": description,
            "payload": {"code": (_WORK / name).read_text(), "stdin": {"$ref": "input.trace"}},
            "depends_on": list(parents),
        }
        for name, task_type, description, parents in _PROGRAMS
    ]
    trace = (_WORK / "epigenomics.json").read_text()
    workflow_id: str = client.post("/workflows", {"name": "demo", "input": {"trace": trace}, "tasks": tasks})["id"]
    return workflow_id


def _ids(client: Client, workflow_id: str) -> dict[str, str]:
    """The ids of its tasks by the names of their programs, in the order above."""
    ids = {node["key"]: node["task_id"] for node in client.get(at("workflows", workflow_id, "graph"))["nodes"]}
    return {name: ids[Path(name).stem] for name, *_ in _PROGRAMS}


def _follow(client: Client, ids: dict[str, str], live: Live) -> dict[str, dict[str, Any]]:
    deadline = time.monotonic() + _PATIENCE_S
    said: dict[str, str] = {}
    while True:
        tasks = {name: client.get(at("tasks", task_id)) for name, task_id in ids.items()}
        live.update(_board(tasks))
        _say_changes(tasks, said)
        if all(task["status"] in TERMINAL for task in tasks.values()) or time.monotonic() > deadline:
            return tasks
        time.sleep(_LOOK_S)


def _say_changes(tasks: dict[str, dict[str, Any]], said: dict[str, str]) -> None:
    """Where there is no terminal to redraw, a line for each change of state."""
    for name, task in tasks.items():
        if not render.err.is_terminal and said.get(name) != task["status"]:
            said[name] = task["status"]
            render.err.print(f"{name:<18} {task['status']}")


def _board(tasks: dict[str, dict[str, Any]]) -> Table:
    board = Table.grid(padding=(0, 2))
    for name, task in tasks.items():
        percent = 100 if task["status"] == "succeeded" else task["progress"] or 0
        board.add_row(Text(name), ProgressBar(total=100, completed=percent, width=24), render.state(task["status"]))
    return board


def _print_results(tasks: dict[str, dict[str, Any]]) -> None:
    for name, task in tasks.items():
        result = task["result"] or {}
        usage = result.get("usage") or {}
        how = f"{task['description']}, {result.get('sandbox', 'no')} sandbox, {usage.get('wall_ms', '?')} ms"
        head = Text.assemble((name, "bold"), "  ", render.state(task["status"]), f"  {how}")
        lines = [Text(line) for line in (result.get("stdout") or "").splitlines()]
        trouble = [Text(str(task["error"]), style="red")] if task["error"] else []
        render.out.print(Group(head, *[Text("  ") + line for line in (*lines, *trouble)], ""))


def _print_next(home: homes.Home) -> None:
    looks = (
        ("make up", "keep a stack running, with these tasks in it; then:"),
        (".venv/bin/clawq workflow list", "every workflow so far"),
        (".venv/bin/clawq show ID", "what happened to one, step by step"),
        ("docs/workflows.md", "workflows: a tutorial"),
        ("docs/architecture.md", "a task's way, file by file"),
        ("docs/api.md", "the HTTP API"),
        (str(home.path), "state and logs"),
    )
    # Copied, a path must work: no look is cut, and a long one does not push the others aside.
    lines = [Text(f"  {where:<29} {what}") for where, what in looks]
    render.out.print(Group(Text("Where to look next", style="bold"), *lines))
