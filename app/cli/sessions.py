"""`clawq sessions`: conversations that tasks, messages and memories belong to."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from app.cli import files, render
from app.cli.client import Client, at

app = typer.Typer(help="Sessions: conversations that tasks, messages and memories belong to.", no_args_is_help=True)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
SessionId = Annotated[str, typer.Argument(help="The id of a session.")]


@app.command("list")
def list_(
    status: Annotated[str | None, typer.Option(help="active or closed.")] = None,
    kind: Annotated[str | None, typer.Option("--type", help="Only sessions of this type.")] = None,
    user: Annotated[str | None, typer.Option("--user", help="Only this user's.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000)] = 20,
    as_json: AsJson = False,
) -> None:
    """List sessions, newest first."""
    page = Client().get("/sessions", status=status, session_type=kind, user_id=user, limit=limit)
    if as_json:
        return render.emit_json(page)
    rows = (
        (s["id"], render.state(s["status"]), s["session_type"], render.minute(s["created_at"]), s["user_id"])
        for s in page["items"]
    )
    render.out.print(render.table(("id", "status", "type", "created", "user"), rows, cut=True))
    render.more(page)


@app.command()
def show(session_id: SessionId, as_json: AsJson = False) -> None:
    """Show a session."""
    session = Client().get(at("sessions", session_id))
    return render.emit_json(session) if as_json else render.fields(session)


@app.command()
def create(
    kind: Annotated[str, typer.Argument(metavar="TYPE", help="What kind of conversation it is, as chat.")],
    user: Annotated[str | None, typer.Option("--user", help="Whose conversation it is.")] = None,
    metadata: Annotated[str | None, typer.Option(help="Your own fields, an object as JSON.")] = None,
    as_json: AsJson = False,
) -> None:
    """Begin a session; prints its id."""
    body: dict[str, Any] = {"session_type": kind} | ({} if user is None else {"user_id": user})
    body |= {} if metadata is None else {"metadata": files.parse(metadata, "--metadata", yaml=False)}
    session = Client().post("/sessions", body)
    return render.emit_json(session) if as_json else render.out.print(session["id"])


@app.command()
def close(session_id: SessionId, as_json: AsJson = False) -> None:
    """Close a session: it takes nothing new, and what is in it stays."""
    session = Client().post(at("sessions", session_id, "close"))
    return render.emit_json(session) if as_json else render.out.print(f"Session {session_id} is closed.")


@app.command()
def delete(session_id: SessionId) -> None:
    """Remove a session that nothing belongs to."""
    Client().delete(at("sessions", session_id))
    render.out.print(f"Session {session_id} is removed.")
