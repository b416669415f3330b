"""`clawq workflow`: tasks that are posted together, with their order."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from app.cli import board, files, render
from app.cli.client import Client, at

app = typer.Typer(help="Workflows: tasks with an order.", no_args_is_help=True)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
Watch = Annotated[bool, typer.Option("--watch", help="Show it until it ends.")]
Given = Annotated[str | None, typer.Option("--input", help="In place of its input: an object as JSON, or a file.")]
WorkflowId = Annotated[str, typer.Argument(help="The id of a workflow.")]

#: The API takes no larger YAML; what is larger is sent as JSON.
_MAX_YAML_BYTES = 2 * 2**20


@app.command()
def run(
    file: Annotated[Path, typer.Argument(help="The document: .yaml and .yml are YAML, others JSON; - reads either.")],
    watch: Watch = False,
    given: Given = None,
    as_json: AsJson = False,
) -> None:
    """Post a workflow. With --watch the exit code is 0 if it succeeded, else 1."""
    client = Client()
    workflow = _post(client, file, None if given is None else _input(given))
    if not watch:
        return render.emit_json(workflow) if as_json else render.out.print(workflow["id"])
    if not as_json:
        render.err.print(f"Workflow {workflow['id']}", style="dim")
    show_to_end(client, workflow["id"], as_json, is_new=True)


@app.command("list")
def list_(
    status: Annotated[str | None, typer.Option(help="Only workflows in this state.")] = None,
    name: Annotated[str | None, typer.Option(help="Only workflows of this name.")] = None,
    label: Annotated[str | None, typer.Option(help="Only workflows with this label, KEY:VALUE.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000)] = 20,
    as_json: AsJson = False,
) -> None:
    """List workflows, newest first."""
    page = Client().get("/workflows", status=status, name=name, label=label, limit=limit)
    if as_json:
        return render.emit_json(page)
    rows = (
        (w["id"], render.state(w["status"]), board.tally(w["counts"]), render.minute(w["created_at"]), w["name"])
        for w in page["items"]
    )
    render.out.print(render.table(("id", "status", "tasks", "created", "name"), rows, cut=True))
    if page["next_cursor"]:
        render.err.print("There are more: raise --limit, or filter.", style="dim")


@app.command()
def show(workflow_id: WorkflowId, watch: Watch = False, as_json: AsJson = False) -> None:
    """Show a workflow: how it stands, and those of its tasks that something happens to."""
    client = Client()
    if watch:
        return show_to_end(client, workflow_id, as_json, is_new=False)
    workflow = client.get(at("workflows", workflow_id))
    workflow["graph"] = client.get(at("workflows", workflow_id, "graph"))
    if as_json:
        return render.emit_json(workflow)
    render.out.print(Text(f"{workflow['id']}  "), render.state(workflow["status"]), sep="")
    for name in ("name", "description", "owner", "rerun_of", "deadline", "error"):
        if workflow[name]:
            render.out.print(Text(f"  {name:<12} {render.one_line(workflow[name])}"))
    done = f"{workflow['progress']}%, {board.tally(workflow['counts'])} ended: {board.listed(workflow['counts'])}"
    render.out.print(Text(f"  {'tasks':<12} {done}"))
    shown, rest = board.choose(workflow["graph"]["nodes"], board.MOST_ROWS)
    rows = ((n["key"], render.state(n["status"]), n["attempt"], board.span(n["duration_s"]), n["error"]) for n in shown)
    render.out.print(render.table(("key", "status", "attempt", "time", ""), rows, cut=True))
    for line in board.more(rest, workflow["graph"]["left_out"]):
        render.out.print(line)


@app.command()
def graph(workflow_id: WorkflowId, as_json: AsJson = False) -> None:
    """Show all tasks of a workflow, what each waits for, and where the time goes."""
    drawn = Client().get(at("workflows", workflow_id, "graph"))
    if as_json:
        return render.emit_json(drawn)
    parents: dict[str, list[str]] = {}
    for parent, child in drawn["edges"]:
        parents.setdefault(child, []).append(parent)
    longest = set(drawn["critical_path"])
    items = {node["key"] for node in drawn["nodes"] if node["mapped_from"]}
    rows = (
        (
            "*" if node["key"] in longest else "",
            f"  {node['key']}" if node["mapped_from"] else node["key"],
            render.state(node["status"]),
            node["attempt"],
            board.span(node["duration_s"]),
            node["task_id"],
            # What a map waits for besides its items, which stand below it.
            ", ".join(key for key in parents.get(node["key"], ()) if key not in items),
        )
        for node in drawn["nodes"]
    )
    render.out.print(render.table(("", "key", "status", "attempt", "time", "task", "after"), rows, cut=True))
    left_out = f" {drawn['left_out']} items are left out." if drawn["left_out"] else ""
    render.err.print(f"* took longest, one after the other.{left_out}", style="dim")


@app.command()
def cancel(workflow_id: WorkflowId, as_json: AsJson = False) -> None:
    """Cancel a workflow and all of its tasks that have not ended."""
    _steer(
        workflow_id, "cancel", as_json, lambda w: "is cancelled" if w["status"] == "cancelled" else "is asked to stop"
    )


@app.command()
def pause(workflow_id: WorkflowId, as_json: AsJson = False) -> None:
    """Pause a workflow: what runs goes on, nothing more is started."""
    _steer(workflow_id, "pause", as_json, lambda _: "is paused")


@app.command()
def resume(workflow_id: WorkflowId, as_json: AsJson = False) -> None:
    """Resume a paused workflow."""
    _steer(workflow_id, "resume", as_json, lambda _: "goes on")


@app.command()
def retry(workflow_id: WorkflowId, as_json: AsJson = False) -> None:
    """Retry a failed or cancelled workflow from where it failed."""
    _steer(workflow_id, "retry", as_json, lambda _: "goes on from where it failed")


@app.command()
def rerun(workflow_id: WorkflowId, given: Given = None, as_json: AsJson = False) -> None:
    """Run a workflow once more from the start, as a new one."""
    body = {} if given is None else {"input": _input(given)}
    workflow = Client().post(at("workflows", workflow_id, "rerun"), body)
    return render.emit_json(workflow) if as_json else render.out.print(workflow["id"])


def _steer(workflow_id: str, verb: str, as_json: bool, outcome: Callable[[dict[str, Any]], str]) -> None:
    workflow = Client().post(at("workflows", workflow_id, verb))
    if as_json:
        return render.emit_json(workflow)
    render.out.print(f"Workflow {workflow_id} {outcome(workflow)}.")


def show_to_end(client: Client, workflow_id: str, as_json: bool, *, is_new: bool) -> None:
    """Show a workflow until it ends, or its end alone as JSON. Exits with 1 if it did not succeed."""
    workflow = board.watch(client, workflow_id, quiet=as_json, is_new=is_new)
    if as_json:
        render.emit_json(workflow)
    elif workflow["error"] and render.err.is_terminal:
        render.err.print(Text(render.one_line(workflow["error"]), style="red"))
    if workflow["status"] != "succeeded":
        raise typer.Exit(1)


def _post(client: Client, file: Path, given: dict[str, Any] | None) -> Any:
    from_stdin = str(file) == "-"
    text = files.read_stdin() if from_stdin else files.read(file)
    # Nothing says what comes through a pipe, but whoever reads YAML reads JSON.
    yaml = from_stdin or files.is_yaml(file)
    content = text.encode()
    if given is None and not (yaml and len(content) > _MAX_YAML_BYTES):
        return client.send("/workflows", content, "application/yaml" if yaml else "application/json")
    document = files.parse(text, "Standard input" if from_stdin else str(file), yaml=yaml)
    return client.post("/workflows", document if given is None else document | {"input": given})


def _input(given: str) -> dict[str, Any]:
    if given.lstrip().startswith("{"):
        return files.parse(given, "--input", yaml=False)
    path = Path(given)
    return files.parse(files.read(path), given, yaml=files.is_yaml(path))
