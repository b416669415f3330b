"""`clawq keys`: who may call the API."""

from __future__ import annotations

from typing import Annotated

import typer

from app.cli import render
from app.cli.client import Client, at

app = typer.Typer(help="API keys.", no_args_is_help=True)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="What the key is for.")],
    scope: Annotated[list[str] | None, typer.Option(help="read, submit or admin; may be repeated.")] = None,
    owner: Annotated[str | None, typer.Option(help="Whose tasks it posts and sees; default: yours.")] = None,
    expires_at: Annotated[str | None, typer.Option(help="RFC 3339 time.")] = None,
    as_json: AsJson = False,
) -> None:
    """Make a key. It is shown once."""
    body = {"name": name, "scopes": scope or ["submit"], "owner": owner, "expires_at": expires_at}
    key = Client().post("/keys", {k: v for k, v in body.items() if v is not None})
    if as_json:
        return render.emit_json(key)
    render.out.print(key["key"])
    render.err.print("Keep it now: it cannot be shown again.", style="dim")


@app.command("list")
def list_(as_json: AsJson = False) -> None:
    """List keys, newest first, without their secrets."""
    page = Client().get("/keys", limit=1000)
    if as_json:
        return render.emit_json(page)
    columns = ("id", "name", "owner", "scopes", "expires_at", "revoked_at")
    rows = ([",".join(k["scopes"]) if c == "scopes" else k[c] for c in columns] for k in page["items"])
    render.out.print(render.table(columns, rows))


@app.command()
def revoke(key_id: Annotated[str, typer.Argument(help="The id of a key.")]) -> None:
    """Make a key useless from now on."""
    Client().delete(at("keys", key_id))
    render.out.print(f"Key {key_id} is revoked.")
