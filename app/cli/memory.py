"""`clawq memory`: what agents remember."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any

import typer
from rich.text import Text

from app.cli import files, memory_files, memory_index, render
from app.cli.client import Client, at
from app.errors import Invalid

app = typer.Typer(help="Memories: remember, search, forget.", no_args_is_help=True)
app.add_typer(memory_files.app)
app.add_typer(memory_index.app)

Json = dict[str, Any]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
MemoryId = Annotated[str, typer.Argument(help="The id of a memory.")]
Kind = Annotated[str | None, typer.Option("--type", help="episodic, semantic, procedural or working.")]
Agent = Annotated[str | None, typer.Option("--agent", help="The agent that remembers.")]
Session = Annotated[str | None, typer.Option("--session", help="The session it belongs to.")]
User = Annotated[str | None, typer.Option("--user", help="Whom it is about.")]
Filter = Annotated[str | None, typer.Option("--filter", help="A condition on the metadata, an object as JSON.")]

_COLUMNS = ("type", "id", "text")


@app.command()
def add(
    text: Annotated[str, typer.Argument(help="The text; - reads standard input.")],
    kind: Annotated[str, typer.Option("--type", help="episodic, semantic, procedural or working.")] = "semantic",
    importance: Annotated[float, typer.Option(help="0 to 1; weighs in searches.")] = 0.5,
    expires: Annotated[str | None, typer.Option(help="RFC 3339 time from which it is forgotten.")] = None,
    agent: Agent = None,
    session: Session = None,
    user: User = None,
    metadata: Annotated[str | None, typer.Option(help="Your own fields, an object as JSON.")] = None,
    supersedes: Annotated[list[str] | None, typer.Option(help="The id of a memory in whose place it stands.")] = None,
    near: Annotated[str, typer.Option(help="Others that say nearly the same: report, merge or ignore.")] = "report",
    as_json: AsJson = False,
) -> None:
    """Remember a text; prints the id of the memory that holds it."""
    body = _scope(kind, agent, session, user) | {
        # The line end that a shell sends is no part of it.
        "content": files.read_stdin().rstrip("\n") if text == "-" else text,
        "importance": importance,
        "supersedes": supersedes or [],
        "on_near_duplicate": near,
    }
    body |= {} if expires is None else {"expires_at": expires}
    body |= {} if metadata is None else {"metadata": files.parse(metadata, "--metadata", yaml=False)}
    told = Client().post("/memories", body)
    if as_json:
        return render.emit_json(told)
    render.out.print(told["id"])
    if told["result"] != "created":
        said = "was here already" if told["result"] == "duplicate_of" else "is merged into what said nearly the same"
        render.err.print(f"The text {said}.", style="dim")
    for other in told["near_duplicates"] or ():
        render.err.print(Text(f"{other['id']} says nearly the same ({other['similarity']:.3f})."), style="dim")


@app.command()
def search(
    query: Annotated[str, typer.Argument(help="What to look for, in plain words.")],
    kind: Kind = None,
    agent: Agent = None,
    session: Session = None,
    user: User = None,
    filter_: Filter = None,
    limit: Annotated[int, typer.Option(min=1, max=100)] = 10,
    mode: Annotated[str, typer.Option(help="hybrid, vector or keyword.")] = "hybrid",
    explain: Annotated[bool, typer.Option("--explain", help="Show the parts of each score.")] = False,
    as_json: AsJson = False,
) -> None:
    """Find the memories that fit best, by meaning and by words."""
    body = _scope(kind, agent, session, user, filter_) | {"query": query, "limit": limit, "mode": mode}
    found = Client().post("/memories/search", body | {"explain": explain})
    if as_json:
        return render.emit_json(found)
    hits = found["items"]
    parts = list(dict.fromkeys(name for hit in hits for name in hit["explain"] or {}))
    rows = ((f"{hit['score']:.3f}", *(_part(hit["explain"], name) for name in parts), *_row(hit)) for hit in hits)
    render.out.print(render.table(("score", *parts, *_COLUMNS), rows, cut=True))
    if found["degraded"]:
        render.err.print(f"Something may be missing: {', '.join(found['degraded_by'])}.", style="yellow")


@app.command("list")
def list_(
    kind: Kind = None,
    agent: Agent = None,
    session: Session = None,
    user: User = None,
    status: Annotated[str | None, typer.Option(help="active, superseded or merged; default: active.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000)] = 20,
    as_json: AsJson = False,
) -> None:
    """List memories, newest first."""
    page = Client().get("/memories", **_scope(kind, agent, session, user), status=status, limit=limit)
    if as_json:
        return render.emit_json(page)
    rows = ((render.minute(memory["created_at"]), *_row(memory)) for memory in page["items"])
    render.out.print(render.table(("created", *_COLUMNS), rows, cut=True))
    if page["next_cursor"]:
        render.err.print("There are more: raise --limit, or filter.", style="dim")


@app.command()
def show(memory_id: MemoryId, as_json: AsJson = False) -> None:
    """Show a memory."""
    memory = Client().get(at("memories", memory_id))
    if as_json:
        return render.emit_json(memory)
    for name, value in memory.items():
        if name != "content" and value is not None:
            render.out.print(Text(f"{name:<12} {render.one_line(value)}"))
    render.out.print(Text("".join(c if c.isprintable() or c in "\n\t" else " " for c in f"\n{memory['content']}")))


@app.command()
def history(memory_id: MemoryId, as_json: AsJson = False) -> None:
    """Show what a memory was before each change, newest first."""
    page = Client().get(at("memories", memory_id, "history"))
    if as_json:
        return render.emit_json(page)
    rows = ((v["version"], render.minute(v["replaced_at"]), v["memory_type"], v["content"]) for v in page["items"])
    render.out.print(render.table(("version", "until", "type", "text"), rows, cut=True))


@app.command()
def forget(
    ids: Annotated[list[str] | None, typer.Argument(metavar="[ID]...", help="Ids of memories.")] = None,
    kind: Kind = None,
    agent: Agent = None,
    session: Session = None,
    user: User = None,
    filter_: Filter = None,
    before: Annotated[str | None, typer.Option(help="Those made before this RFC 3339 time.")] = None,
    all_: Annotated[bool, typer.Option("--all", help="All of yours.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="I mean it: what a scope holds is gone for good.")] = False,
    as_json: AsJson = False,
) -> None:
    """Forget memories for good: some ids, or all of a scope with --yes."""
    body = _scope(kind, agent, session, user, filter_)
    body |= ({"created_before": before} if before else {}) | ({"all": True} if all_ else {})
    if bool(ids) == bool(body):
        raise Invalid("Give ids, or a scope, or --all.")
    if body and not yes:
        raise Invalid("This forgets every memory of that scope for good: give --yes if you mean it.")
    client, forgotten, more = Client(), 0, True
    while more:
        told = client.post("/memories/forget", body or {"ids": ids})
        forgotten, more = forgotten + told["forgotten"], told["more"]
    if as_json:
        return render.emit_json({"forgotten": forgotten})
    render.out.print(f"{forgotten} {'memory is' if forgotten == 1 else 'memories are'} forgotten.")


@app.command()
def consolidate(
    kind: Kind = None,
    agent: Agent = None,
    session: Session = None,
    user: User = None,
    filter_: Filter = None,
    threshold: Annotated[float, typer.Option(help="The cosine from which two texts say nearly the same.")] = 0.95,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Most memories compared, the newest.")] = 1000,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Change nothing.")] = False,
    as_json: AsJson = False,
) -> None:
    """Merge memories that say nearly the same; all are kept, one is found."""
    body = _scope(kind, agent, session, user, filter_)
    body |= {"threshold": threshold, "limit": limit, "dry_run": dry_run}
    told = Client().post("/memories/consolidate", body)
    if as_json:
        return render.emit_json(told)
    rows = ((g["kept"], f"{g['similarity']:.3f}", other) for g in told["groups"] for other in g["merged"])
    render.out.print(render.table(("kept", "similarity", "would be merged" if dry_run else "merged"), rows))
    rest = ", and there are more: narrow the scope" if told["more"] else ""
    render.err.print(f"{told['compared']} were compared{rest}.", style="dim")


def _scope(
    kind: str | None, agent: str | None, session: str | None, user: str | None, filter_: str | None = None
) -> Json:
    """What is given of a scope, in the API's words."""
    scope = {"memory_type": kind, "agent_id": agent, "session_id": session, "user_id": user}
    given: Json = {name: value for name, value in scope.items() if value is not None}
    return given | ({} if filter_ is None else {"filter": files.parse(filter_, "--filter", yaml=False)})


def _row(memory: Json) -> Iterable[Any]:
    return memory["memory_type"], memory["id"], memory["content"]


def _part(parts: Json | None, name: str) -> str:
    value = (parts or {}).get(name)
    return "" if value is None else f"{value:.3f}"
