"""`clawq memory status`, `rebuild`, `vacuum` and `verify`: the index of memories."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import httpx
import typer
from rich.text import Text

from app.cli import render
from app.cli.client import ApiError, Client
from app.errors import ClawqError
from app.local import control
from app.local import home as homes
from app.memory import heartbeat
from app.settings import settings

app = typer.Typer()

Json = dict[str, Any]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]

_LOOK_S = 0.5
#: Seconds for an answer of Chroma, for its restart, and for what has to happen before and after that.
_ANSWER_S, _RESTART_S, _VACUUM_S = 5.0, 60.0, 180.0


@app.command()
def status(as_json: AsJson = False) -> None:
    """Show how far the index of memories follows."""
    told = Client().get("/memories/index")
    if as_json:
        return render.emit_json(told)
    indexes = [(name, told[name]) for name in ("active", "building") if told[name]]
    rows = (
        (name, i["embedder"], i["pending"], i["failed"], f"{i['lag_s']:.1f} s", i["collection"]) for name, i in indexes
    )
    render.out.print(render.table(("index", "embedder", "pending", "failed", "lag", "collection"), rows))
    if not indexes:
        render.err.print("There is no index yet: a memory worker makes it when it starts.", style="yellow")
    elif told["active"] and told["configured"] != told["active"]["embedder"]:
        render.err.print(
            Text(
                f"The settings ask for {told['configured']}: until `clawq memory rebuild`, searches go by words alone."
            ),
            style="yellow",
        )
    if told["failures"]:
        failures = (
            (f["memory_id"], f["failures"], "" if f["failed_at"] else "is tried again", f["error"])
            for f in told["failures"]
        )
        render.out.print(render.table(("memory", "failures", "", "error"), failures, cut=True))


@app.command()
def rebuild(as_json: AsJson = False) -> None:
    """Build the index anew beside the old one, and wait until it takes its place."""
    told = _rebuild(Client())
    if as_json:
        return render.emit_json(told)
    failed = told["active"]["failed"]
    render.out.print(f"The new index serves{f', without {failed} that failed' if failed else ''}.")


@app.command()
def vacuum(as_json: AsJson = False) -> None:
    """Remove what Chroma's files still have of memories that were forgotten: builds the index anew, restarts Chroma."""
    home = homes.locate(settings().home)
    if not any(process.name == "chroma" for process in control.status(home).processes):
        raise ClawqError(
            f"No stack in {home.path} runs a Chroma. Where yours runs, stop it, empty its directory and start it again:"
            " a memory worker fills it anew."
        )
    data = home.path / "chroma"
    before = _size(data)
    client, url = Client(), settings().require_vector_db_url()
    old = client.get("/memories/index")["active"]
    told = _rebuild(client)
    with render.status("waiting until nobody asks the old index any more"):
        _wait_for(lambda: old is None or not heartbeat.has(url, old["collection"], _ANSWER_S))
    with render.status("restarting Chroma"):
        control.restart(home, "chroma", _RESTART_S)
        _wait_for(lambda: heartbeat.has(url, told["active"]["collection"], _ANSWER_S))
    after = _size(data)
    if as_json:
        return render.emit_json({"bytes_before": before, "bytes_after": after})
    render.out.print(f"Chroma's files hold the new index alone: {_mb(before)} before, {_mb(after)} now.")


def _wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _VACUUM_S
    while True:
        with suppress(httpx.HTTPError):
            if condition():
                return
        if time.monotonic() > deadline:
            raise ClawqError(f"Not within {_VACUUM_S:.0f} s: see the logs of memory and chroma.")
        time.sleep(_LOOK_S)


def _size(directory: Path) -> int:
    return sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())


def _mb(size: int) -> str:
    return f"{size / 1e6:.1f} MB"


def _rebuild(client: Client) -> Json:
    """What is told of the index once a new one serves."""
    told = client.get("/memories/index")
    if told["building"] is None:
        told = client.post("/memories/index/rebuild")
    else:
        render.err.print("A new index is being built already.", style="dim")
    new = told["building"]["id"]
    try:
        with render.status("building") as say:
            while (told["building"] or {}).get("id") == new:
                say(f"{told['building']['pending']} to go, {told['building']['failed']} failed")
                time.sleep(_LOOK_S)
                told = client.get("/memories/index")
    except (ApiError, KeyboardInterrupt):
        render.err.print("The building goes on.\n  clawq memory status   how far it is")
        raise
    if told["active"] is None or told["active"]["id"] != new:
        render.err.print("Another index has taken its place.", style="red")
        raise typer.Exit(1)
    return dict(told)


@app.command()
def verify(
    repair: Annotated[bool, typer.Option("--repair", help="Set right what differs.")] = False, as_json: AsJson = False
) -> None:
    """Compare the index with Postgres. The exit code is 1 if there were differences, set right or not."""
    told = Client().post("/memories/index/verify", {"repair": repair})
    if as_json:
        render.emit_json(told)
    else:
        render.out.print(
            f"{told['expected']} memories: {told['missing']} missing, {told['ghosts']} ghosts, "
            f"{told['failed']} failed; {told['pending']} on their way."
        )
        for example in told["examples"]:
            render.out.print(Text(f"  {render.one_line(example)}"))
    if told["differences"]:
        hint = "They are being set right; look again." if repair else "`clawq memory verify --repair` sets them right."
        render.err.print(f"{told['differences']} differences. {hint}", style="yellow")
        raise typer.Exit(1)
