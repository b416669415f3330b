"""`clawq groupchats`: sets of agents that a message reaches at once."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from app.cli import render
from app.cli.client import Client, at

app = typer.Typer(help="Group chats: sets of agents that a message reaches at once.", no_args_is_help=True)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
ChatId = Annotated[str, typer.Argument(help="The id of a group chat.")]


@app.command("list")
def list_(
    status: Annotated[str | None, typer.Option(help="active or closed.")] = None,
    name: Annotated[str | None, typer.Option(help="Only those of this name.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000)] = 20,
    as_json: AsJson = False,
) -> None:
    """List group chats, newest first."""
    page = Client().get("/groupchats", status=status, name=name, limit=limit)
    if as_json:
        return render.emit_json(page)
    rows = ((c["id"], render.state(c["status"]), len(c["agents"]), c["name"]) for c in page["items"])
    render.out.print(render.table(("id", "status", "members", "name"), rows, cut=True))
    render.more(page)


@app.command()
def show(groupchat_id: ChatId, as_json: AsJson = False) -> None:
    """Show a group chat."""
    chat = Client().get(at("groupchats", groupchat_id))
    return render.emit_json(chat) if as_json else render.fields(chat)


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="What it is called.")],
    agents: Annotated[list[str], typer.Argument(metavar="AGENT...", help="Ids of its members.")],
    description: Annotated[str | None, typer.Option(help="What it is for.")] = None,
    as_json: AsJson = False,
) -> None:
    """Make a group chat; prints its id."""
    body: dict[str, Any] = {"name": name, "agents": agents}
    chat = Client().post("/groupchats", body | ({} if description is None else {"description": description}))
    return render.emit_json(chat) if as_json else render.out.print(chat["id"])


@app.command()
def update(
    groupchat_id: ChatId,
    name: Annotated[str | None, typer.Option(help="What it is called.")] = None,
    agents: Annotated[
        list[str] | None, typer.Option("--agent", help="A member, in place of all there were; may be repeated.")
    ] = None,
    description: Annotated[str | None, typer.Option(help="What it is for.")] = None,
    status: Annotated[str | None, typer.Option(help="active, or closed: it takes no messages.")] = None,
    as_json: AsJson = False,
) -> None:
    """Change a group chat, or close it; what is left out stays."""
    given = {"name": name, "agents": agents or None, "description": description, "status": status}
    body = {field: value for field, value in given.items() if value is not None}
    chat = Client().patch(at("groupchats", groupchat_id), body)
    return render.emit_json(chat) if as_json else render.out.print(f"Group chat {groupchat_id} is changed.")


@app.command()
def delete(groupchat_id: ChatId) -> None:
    """Remove a group chat that nothing was posted to."""
    Client().delete(at("groupchats", groupchat_id))
    render.out.print(f"Group chat {groupchat_id} is removed.")
