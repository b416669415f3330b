"""`clawq up`, `down`, `status`, `doctor` and `migrate`: the embedded stack."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import typer
from rich.console import Group
from rich.table import Table
from rich.text import Text
from sqlalchemy.exc import SQLAlchemyError

from app.cli import render
from app.errors import ClawqError
from app.local import control, doctor, logfiles, record
from app.local import home as homes
from app.local.home import Home
from app.local.plan import StartFailed
from app.settings import Settings, settings

app = typer.Typer()

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object, for programs.")]
Hidden = typer.Option(hidden=True)


@app.command()
def up(
    background: Annotated[bool, typer.Option("--background", help="Return when it is ready.")] = False,
    without: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="A process to leave out; may be repeated.")
    ] = None,
    as_json: AsJson = False,
    procfile: Annotated[Path | None, Hidden] = None,
    bare: Annotated[bool, Hidden] = False,
) -> None:
    """Start the stack: Postgres, Valkey, Chroma, the API, the workers and Flower, all on 127.0.0.1."""
    home = homes.open_home(settings().home)
    if homes.is_held(home):
        raise homes.StackRunning(homes.running_sentence(home))
    with control.Starting(home, leash=not background, procfile=procfile, without=without or (), bare=bare) as starting:
        _pass_signals_on(starting)
        try:
            _follow(starting, background=background, as_json=as_json)
        except StartFailed as exc:
            lines = logfiles.tail(exc.log_file)
            render.complain(exc.detail, [f"last lines of {exc.log_file}:", *lines] if lines else [])
            raise typer.Exit(1) from None


def _pass_signals_on(starting: control.Starting) -> None:
    def ask(_sign: int, _frame: FrameType | None) -> None:
        starting.stop()

    for sign in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(sign, ask)


def _follow(starting: control.Starting, *, background: bool, as_json: bool) -> None:
    events = starting.events()
    ready = _await_ready(events, quiet=as_json)
    if ready is None:
        render.err.print("Stopped before it was ready.")
        raise typer.Exit(130)
    # Between two live pictures: rich prints results past its own.
    _present(ready, as_json=as_json)
    if background:
        return
    doing = Text("", style="cyan")
    with render.live(lambda: Group(_table(control.status(starting.home)), doing)):
        for event in events:
            doing.plain = f"{event['text']} …"
    render.err.print("Stopped.")


def _await_ready(events: Iterator[dict[str, Any]], *, quiet: bool) -> dict[str, Any] | None:
    """Show the steps of a start; returns what is known at its end, None if it was stopped."""
    with render.status("starting …") as status:
        for event in events:
            if event["event"] == "ready":
                return event
            if render.err.is_terminal:
                status(f"{event['text']} …")
            elif not quiet:
                render.err.print(event["text"])
    return None


def _present(ready: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        return render.emit_json({name: ready.get(name) for name in (*record.URLS, "api_key", "home")})
    home = Home(Path(ready["home"]))
    facts = Table.grid(padding=(0, 2))
    facts.add_row("API", Text(f"{ready['api_url']}"))
    facts.add_row("key", Text(f"{home.key_file}"))
    if "ws_url" in ready:
        facts.add_row("sockets", Text(ready["ws_url"]))
    if "flower_url" in ready:
        facts.add_row("Flower", Text(ready["flower_url"]))
        facts.add_row("", Text(_flower_access(home)))
    facts.add_row("logs", Text(f"{home.logs}"))
    tries = Text("Try:  clawq submit -c 'print(6 * 7)' --wait\n      clawq status\n      clawq down", style="dim")
    render.out.print(Group(Text("clawq is running.", style="bold green"), facts, tries))


def _flower_access(home: Home) -> str:
    config = settings()
    place = "CLAWQ_FLOWER_PASSWORD" if config.flower_password else str(home.flower_password_file)
    return f"user {config.flower_user}, password in {place}"


def _table(status: control.Status) -> Text:
    rows = [(p.name, render.state(p.state), p.pid) for p in status.processes]
    return render.table(("process", "state", "pid"), rows)


@app.command()
def down() -> None:
    """Stop the stack. Running tasks get their time to finish; the data stay."""
    config = settings()
    home = homes.locate(config.home)
    with render.status("stopping …"):
        stopped = control.stop(home, config.drain_s)
    render.err.print("Stopped." if stopped else f"No stack is running in {home.path}.")


@app.command()
def status(as_json: AsJson = False) -> None:
    """Show the processes of the stack. Exit code 1: it is not running, or not all of it."""
    found = control.status(homes.locate(settings().home))
    if as_json:
        processes = [{"name": p.name, "role": p.role, "pid": p.pid, "state": p.state} for p in found.processes]
        urls = {name: found.urls.get(name) for name in record.URLS}
        render.emit_json({"processes": processes, "left": found.left, "home": str(found.home.path), **urls})
    elif found.running:
        render.out.print(_table(found))
        render.out.print(f"\n{found.urls.get('api_url', 'starting')}   home {found.home.path}", style="dim")
    elif found.left:
        render.out.print(f"No stack is running in {found.home.path}, but {record.LEFT}.")
    else:
        render.out.print(f"No stack is running in {found.home.path}: start one with `clawq up`.")
    if not found.processes or any(p.state != "running" for p in found.processes):
        raise typer.Exit(1)


@app.command("doctor")
def doctor_(as_json: AsJson = False) -> None:
    """Check what the stack needs. Exit code 0: `clawq demo` can run here."""
    config = settings()
    if not homes.is_held(homes.locate(config.home)):
        # A killed supervisor leaves URLs behind that lead nowhere.
        config = Settings(_env_file=".env")
    checks = doctor.examine(config)
    healthy = all(check.state != "fail" for check in checks)
    if as_json:
        listing = [{"name": c.name, "state": c.state, "detail": c.detail} for c in checks]
        render.emit_json({"ok": healthy, "checks": listing})
    else:
        for check in checks:
            render.out.print(render.state(check.state.ljust(4)), f" {check.name:<10} ", Text(check.detail), sep="")
    if not healthy:
        raise typer.Exit(1)


@app.command()
def migrate() -> None:
    """Bring the database to the newest schema."""
    from schema.migrate import migrate as apply

    url = settings().require_database_url()
    try:
        apply(url)
    except SQLAlchemyError as exc:
        raise ClawqError(f"The database was not migrated: {str(exc).splitlines()[0]}") from exc
    render.err.print("The database is up to date.")
