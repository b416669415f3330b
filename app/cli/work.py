"""`clawq submit`, `tasks`, `show`, `logs` and `cancel`: tasks from the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from app.cli import attend, files, render, stream
from app.cli.client import Client, at
from app.errors import Invalid

app = typer.Typer()

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
TaskId = Annotated[str, typer.Argument(help="The id of a task.")]

#: Task types by the ending of a program's name.
_TYPES = {".sh": "shell", ".js": "javascript"}


@app.command()
def submit(
    file: Annotated[
        Path | None, typer.Argument(help="A program; .sh is shell, .js is javascript, others are python.")
    ] = None,
    code: Annotated[str | None, typer.Option("-c", "--code", help="A program as text.")] = None,
    task_type: Annotated[
        str | None, typer.Option("--type", help="python, shell, javascript, container, memory.store … or echo.")
    ] = None,
    payload: Annotated[str | None, typer.Option(help="The whole payload, as JSON.")] = None,
    stdin: Annotated[Path | None, typer.Option(help="A file that the program reads as its input; - for ours.")] = None,
    arg: Annotated[list[str] | None, typer.Option(help="An argument of the program; may be repeated.")] = None,
    description: Annotated[str, typer.Option(help="What it is, for people.")] = "",
    priority: Annotated[str, typer.Option(help="high, normal or low.")] = "normal",
    after: Annotated[list[str] | None, typer.Option(help="The id of a task that must succeed first.")] = None,
    max_attempts: Annotated[int, typer.Option(help="Tries before it fails.")] = 1,
    delay_s: Annotated[float, typer.Option(help="Seconds before it starts.")] = 0,
    wait: Annotated[bool, typer.Option("--wait", help="Show its output and wait for its end.")] = False,
    as_json: AsJson = False,
) -> None:
    """Post a task. With --wait the exit code is 0 if it succeeded, else 1."""
    kind = task_type or _TYPES.get(file.suffix if file else "", "python")
    body: dict[str, Any] = {
        "task_type": kind,
        "payload": _payload(file, code, payload, stdin, arg or []),
        "description": description or (file.name if file else ""),
        "priority": priority,
        "dependencies": after or [],
        "max_attempts": max_attempts,
        "delay_s": delay_s,
    }
    client = Client()
    task = client.post("/tasks", body)
    if wait:
        task = attend.attend(client, task["id"], quiet=as_json)
    if as_json:
        render.emit_json(task)
    elif wait:
        attend.print_end(task)
    else:
        render.out.print(task["id"])
    if wait and task["status"] != "succeeded":
        raise typer.Exit(1)


@app.command()
def tasks(
    status: Annotated[str | None, typer.Option(help="Only tasks in this state.")] = None,
    task_type: Annotated[str | None, typer.Option("--type", help="Only tasks of this type.")] = None,
    label: Annotated[str | None, typer.Option(help="Only tasks with this label, KEY:VALUE.")] = None,
    q: Annotated[str | None, typer.Option(help="Part of the description, or an id.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000)] = 20,
    as_json: AsJson = False,
) -> None:
    """List tasks, newest first."""
    page = Client().get("/tasks", status=status, task_type=task_type, label=label, q=q, limit=limit)
    if as_json:
        return render.emit_json(page)
    rows = (
        (t["id"], _state(t), t["task_type"], render.minute(t["created_at"]), t["description"]) for t in page["items"]
    )
    render.out.print(render.table(("id", "status", "type", "created", "description"), rows, cut=True))
    if page["next_cursor"]:
        render.err.print("There are more: raise --limit, or filter.", style="dim")


@app.command()
def show(task_id: TaskId, as_json: AsJson = False) -> None:
    """Show a task: how it stands, what it waits for, what happened."""
    client = Client()
    task = client.get(at("tasks", task_id))
    task["explain"] = client.get(at("tasks", task_id, "explain"))
    task["events"] = [e for e in client.events(task_id) if e["kind"] != "log"]
    if as_json:
        return render.emit_json(task)
    render.out.print(Text(f"{task['id']}  "), render.state(task["status"]), sep="")
    for name in ("task_type", "description", "queue", "assigned_to", "attempt", "error"):
        if task[name]:
            render.out.print(Text(f"  {name:<12} {task[name]}"))
    for reason in task["explain"]["waiting_for"]:
        render.out.print(Text(f"  waits for    {reason['detail']}"))
    rows = (
        (e["seq"], e["at"], render.state(e["kind"]), e["attempt"], json.dumps(e["data"]) if e["data"] else None)
        for e in task["events"]
    )
    render.out.print(render.table(("seq", "at", "event", "attempt", ""), rows))
    if task["result"] is not None:
        render.out.print(Text(json.dumps(task["result"], indent=2, ensure_ascii=False)))


@app.command()
def logs(
    task_id: TaskId,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Until it ends.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print a line of JSON for each piece.")] = False,
) -> None:
    """Print what a task's program prints. With --follow the exit code is 0 if the task succeeded, else 1."""
    client = Client()
    client.get(at("tasks", task_id))
    for event in stream.follow(client, task_id=task_id) if follow else client.events(task_id):
        if event["kind"] == "log":
            render.emit_json(event) if as_json else attend.print_output(event)
    if follow and stream.patiently(lambda: client.get(at("tasks", task_id)))["status"] != "succeeded":
        raise typer.Exit(1)


@app.command()
def cancel(task_id: TaskId, as_json: AsJson = False) -> None:
    """Cancel a task; one that runs is cancelled once its program is dead."""
    task = Client().post(at("tasks", task_id, "cancel"))
    if as_json:
        return render.emit_json(task)
    word = "is cancelled" if task["status"] == "cancelled" else "is asked to stop"
    render.out.print(f"Task {task_id} {word}.")


def _state(task: dict[str, Any]) -> Text:
    done = f" {task['progress']}%" if task["status"] == "running" and task["progress"] else ""
    return render.state(task["status"]) + Text(done)


def _payload(
    file: Path | None, code: str | None, payload: str | None, stdin: Path | None, args: list[str]
) -> dict[str, Any]:
    if sum(given is not None for given in (file, code, payload)) != 1:
        raise Invalid("Give one of FILE, --code and --payload.")
    if payload is not None:
        try:
            value = json.loads(payload)
        except (ValueError, RecursionError) as exc:
            raise Invalid(f"--payload is not JSON: {exc}.") from None
        return value if isinstance(value, dict) else {"value": value}
    built: dict[str, Any] = {"code": files.read(file) if file else code, "args": args}
    if stdin is not None:
        built["stdin"] = files.read_stdin() if str(stdin) == "-" else files.read(stdin)
    return built
