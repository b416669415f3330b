"""`clawq messages`: what agents write to each other."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Annotated, Any

import typer
from rich.text import Text

from app.cli import files, render, stream
from app.cli.client import Client, at
from app.errors import Invalid

app = typer.Typer(help="Messages: what agents write to each other.", no_args_is_help=True)

Json = dict[str, Any]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
MessageId = Annotated[str, typer.Argument(help="The id of a message.")]
Session = Annotated[str | None, typer.Option("--session", help="The session it belongs to.")]
Chat = Annotated[str | None, typer.Option("--groupchat", help="The group chat that it goes to.")]

#: Seconds of one long-poll, and between two that are answered at once, as when too many wait already.
_WAIT_S, _APART_S = 30, 1.0


@app.command()
def send(
    text: Annotated[str, typer.Argument(help="The text; - reads standard input.")],
    source: Annotated[str, typer.Option("--from", help="The agent that it comes from.")],
    destination: Annotated[str | None, typer.Option("--to", help="The agent that it goes to.")] = None,
    chat: Chat = None,
    kind: Annotated[str, typer.Option("--type", help="A word of yours.")] = "text",
    session: Session = None,
    metadata: Annotated[str | None, typer.Option(help="Your own fields, an object as JSON.")] = None,
    as_json: AsJson = False,
) -> None:
    """Send a message to an agent, or to all members of a group chat; prints its id."""
    if (destination is None) == (chat is None):
        raise Invalid("Give one of --to and --groupchat.")
    # The line end that a shell sends is no part of it.
    content = files.read_stdin().rstrip("\n") if text == "-" else text
    given = {"destination_agent_id": destination, "groupchat_id": chat, "session_id": session}
    body: Json = {"source_agent_id": source, "message_type": kind, "content": content}
    body |= {name: value for name, value in given.items() if value is not None}
    body |= {} if metadata is None else {"metadata": files.parse(metadata, "--metadata", yaml=False)}
    message = Client().post("/messages", body)
    return render.emit_json(message) if as_json else render.out.print(message["id"])


@app.command("list")
def list_(
    source: Annotated[str | None, typer.Option("--from", help="Only those of this agent.")] = None,
    destination: Annotated[str | None, typer.Option("--to", help="Only those to this agent, copies too.")] = None,
    chat: Chat = None,
    session: Session = None,
    status: Annotated[str | None, typer.Option(help="pending, sent or received.")] = None,
    post: Annotated[str | None, typer.Option(help="The copies of this message to a group chat.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000)] = 20,
    as_json: AsJson = False,
) -> None:
    """List messages, newest first, as they were posted."""
    wanted = {
        "source_agent_id": source,
        "destination_agent_id": destination,
        "groupchat_id": chat,
        "session_id": session,
        "status": status,
        "post_id": post,
    }
    page = Client().get("/messages", **wanted, limit=limit)
    if as_json:
        return render.emit_json(page)
    rows = (
        (m["id"], render.state(m["status"]), m["source_agent_id"], _whereto(m), m["message_type"], m["content"])
        for m in page["items"]
    )
    render.out.print(render.table(("id", "status", "from", "to", "type", "text"), rows, cut=True))
    render.more(page)


@app.command()
def show(message_id: MessageId, as_json: AsJson = False) -> None:
    """Show a message."""
    message = Client().get(at("messages", message_id))
    if as_json:
        return render.emit_json(message)
    render.fields({name: value for name, value in message.items() if name != "content"})
    render.out.print(Text("".join(c if c.isprintable() or c in "\n\t" else " " for c in f"\n{message['content']}")))


@app.command()
def inbox(
    agent_id: Annotated[str, typer.Argument(help="The id of an agent.")],
    after: Annotated[int, typer.Option(min=0, help="Only what has a greater number.")] = 0,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Wait for more, until it is broken off.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, a message a line.")] = False,
) -> None:
    """Show an agent's messages that are not acknowledged, in order.

    With --follow an API that is away for a while, as for a restart, is waited for.
    """
    for message in _followed(Client(), agent_id, after) if follow else _read(Client(), agent_id, after):
        if as_json:
            render.emit_json(message)
        else:
            number, sender = Text(f"{message['seq']:>6}  "), Text(message["source_agent_id"], style="cyan")
            render.out.print(number + sender + Text(f"  {message['id']}  {render.one_line(message['content'])}"))


@app.command()
def ack(
    ids: Annotated[list[str], typer.Argument(metavar="ID...", help="Ids of messages.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, a message a line.")] = False,
) -> None:
    """Acknowledge messages: the inbox shows them no more."""
    client = Client()
    for message_id in ids:
        message = client.post(at("messages", message_id, "ack"))
        if as_json:
            render.emit_json(message)
    if not as_json:
        render.out.print(f"{len(ids)} {'message is' if len(ids) == 1 else 'messages are'} acknowledged.")


def _whereto(message: Json) -> str:
    return str(message["destination_agent_id"] or message["groupchat_id"])


def _read(client: Client, agent_id: str, after: int) -> Iterator[Json]:
    """What is in an inbox."""
    cursor: int | None = after
    while cursor is not None:
        page = _page(client, agent_id, cursor)
        yield from page["items"]
        cursor = int(page["next_cursor"]) if page["next_cursor"] else None


def _page(client: Client, agent_id: str, after: int, wait: float | None = None) -> Json:
    page: Json = client.get(at("agents", agent_id, "inbox"), after=after, limit=1000, wait=wait)
    return page


def _followed(client: Client, agent_id: str, after: int) -> Iterable[Json]:
    """What is in an inbox and what comes, each once, also over an API that is away for a while."""
    wait: float | None = _WAIT_S
    while True:
        asked = time.monotonic()
        page = stream.patiently(partial(_page, client, agent_id, after, wait))
        for message in page["items"]:
            after = message["seq"]
            yield message
        # What is left of a page is there already.
        wait = None if page["next_cursor"] else _WAIT_S
        if not page["items"] and (left := _APART_S - (time.monotonic() - asked)) > 0:
            time.sleep(left)
