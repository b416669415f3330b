"""`clawq watch`: a task or a workflow until it ends, or all that runs."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime
from typing import Annotated, Any

import typer
from rich.live import Live
from rich.text import Text

from app.cli import attend, board, render, stream, workflow
from app.cli.client import ApiError, Away, Client, at
from app.errors import NotFound

app = typer.Typer()

Json = dict[str, Any]

#: Seconds between two looks at all that runs.
_LOOK_S = 1.0
#: Lines that are no rows: two headers, what is said of the rest, a gap, and the prompt.
_OTHER_LINES = 6


@app.command()
def watch(
    an_id: Annotated[
        str | None, typer.Argument(metavar="ID", help="A task or a workflow; without one, all that runs.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print a line of JSON for each event.")] = False,
) -> None:
    """Watch a task or a workflow until it ends; the exit code is 0 if it succeeded, else 1.

    Without an id, all that runs: until Ctrl-C on a terminal, once elsewhere, with --json whenever it changes.
    """
    client = Client()
    if an_id is None:
        return _watch_all(client, as_json)
    kind = _kind(client, an_id)
    if kind == "workflow" and not as_json:
        return workflow.show_to_end(client, an_id, as_json, is_new=False)
    if as_json:
        for event in stream.follow(client, **{f"{kind}_id": an_id}):
            render.emit_json(event)
        ended = stream.patiently(lambda: client.get(at(f"{kind}s", an_id)))
    else:
        ended = attend.attend(client, an_id, quiet=False)
        attend.print_end(ended)
    if ended["status"] != "succeeded":
        raise typer.Exit(1)


def _kind(client: Client, an_id: str) -> str:
    for kind in ("task", "workflow"):
        try:
            client.get(at(f"{kind}s", an_id))
        except ApiError as exc:
            if exc.http_status != NotFound.http_status:
                raise
        else:
            return kind
    raise NotFound(f"There is no task and no workflow {an_id}.")


def _watch_all(client: Client, as_json: bool) -> None:
    is_live = render.out.is_terminal and not as_json
    most = max(1, min(board.MOST_ROWS, render.out.height - _OTHER_LINES) // 2) if is_live else board.MOST_ROWS
    looks = _looks(client, most)
    if is_live:
        with Live(picture(next(looks)), console=render.out, auto_refresh=False) as live:
            for look in looks:
                live.update(picture(look), refresh=True)
    elif as_json:
        told = None
        for look in looks:
            if look != told:
                render.emit_json(told := look)
    else:
        render.out.print(picture(next(looks)))


def _looks(client: Client, most: int) -> Iterator[Json]:
    """The workflows and tasks that run, the newest first, now and again and again. Raises ApiError."""
    patience = stream.Patience()
    while True:
        try:
            look = {kind: client.get(f"/{kind}", status="running", limit=most) for kind in ("workflows", "tasks")}
        except Away as exc:
            patience.wait(exc)
            continue
        patience.renew()
        yield look
        time.sleep(_LOOK_S)


def picture(look: Json) -> Text:
    """Two tables, or one if there is nothing to show in the other."""
    workflows, tasks = look["workflows"]["items"], look["tasks"]["items"]
    rows = [(w["id"], f"{w['progress']}%", board.tally(w["counts"]), _since(w), w["name"]) for w in workflows]
    parts = [render.table(("workflow", "done", "tasks", "since", "name"), rows, cut=True)] if rows else []
    rows = [
        (t["id"], f"{t['progress']}%" if t["progress"] else "", t["task_type"], _since(t), t["description"])
        for t in tasks
    ]
    parts += [render.table(("task", "done", "type", "since", "description"), rows, cut=True)] if rows else []
    if look["workflows"]["next_cursor"] or look["tasks"]["next_cursor"]:
        parts.append(Text("… and more", style="dim"))
    return Text("\n\n").join(parts) if parts else Text("Nothing runs.", style="dim")


def _since(thing: Json) -> str:
    started = thing["started_at"]
    return f"{datetime.fromisoformat(started).astimezone():%H:%M:%S}" if started else ""
