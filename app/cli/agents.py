"""`clawq agents`: the members of the group."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from app.cli import files, render
from app.cli.client import Client, at

app = typer.Typer(help="Agents: the members of the group.", no_args_is_help=True)

Json = dict[str, Any]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
AgentId = Annotated[str, typer.Argument(help="The id of an agent.")]
Configuration = Annotated[
    str | None, typer.Option(help='Its policy, an object as JSON: {"task_types": ["python"], "max_running": 2}.')
]


@app.command("list")
def list_(
    agent_type: Annotated[str | None, typer.Option("--type", help="Only agents of this type.")] = None,
    status: Annotated[str | None, typer.Option(help="active or inactive.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000)] = 20,
    as_json: AsJson = False,
) -> None:
    """List agents, newest first."""
    page = Client().get("/agents", agent_type=agent_type, status=status, limit=limit)
    if as_json:
        return render.emit_json(page)
    rows = ((a["id"], render.state(a["status"]), a["agent_type"], a["name"], a["role"]) for a in page["items"])
    render.out.print(render.table(("id", "status", "type", "name", "role"), rows, cut=True))
    render.more(page)


@app.command()
def show(agent_id: AgentId, as_json: AsJson = False) -> None:
    """Show an agent."""
    agent = Client().get(at("agents", agent_id))
    return render.emit_json(agent) if as_json else render.fields(agent)


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="What it is called.")],
    role: Annotated[str, typer.Option(help="What it is in the group, for people.")],
    goal: Annotated[str, typer.Option(help="What it is there for.")],
    agent_type: Annotated[str, typer.Option("--type", help="A word of yours, as researcher.")],
    backstory: Annotated[str | None, typer.Option(help="How it came to be what it is.")] = None,
    configuration: Configuration = None,
    as_json: AsJson = False,
) -> None:
    """Add an agent of your own; prints its id."""
    body: Json = {"name": name, "role": role, "goal": goal, "agent_type": agent_type}
    body |= {} if backstory is None else {"backstory": backstory}
    agent = Client().post("/agents", body | _configured(configuration))
    return render.emit_json(agent) if as_json else render.out.print(agent["id"])


@app.command()
def update(
    agent_id: AgentId,
    name: Annotated[str | None, typer.Option(help="What it is called.")] = None,
    role: Annotated[str | None, typer.Option(help="What it is in the group, for people.")] = None,
    goal: Annotated[str | None, typer.Option(help="What it is there for.")] = None,
    backstory: Annotated[str | None, typer.Option(help="How it came to be what it is.")] = None,
    status: Annotated[str | None, typer.Option(help="active or inactive; of your own agents.")] = None,
    configuration: Configuration = None,
    as_json: AsJson = False,
) -> None:
    """Change an agent; what is left out stays."""
    given = {"name": name, "role": role, "goal": goal, "backstory": backstory, "status": status}
    body = {field: value for field, value in given.items() if value is not None} | _configured(configuration)
    agent = Client().patch(at("agents", agent_id), body)
    return render.emit_json(agent) if as_json else render.out.print(f"Agent {agent_id} is changed.")


@app.command()
def delete(agent_id: AgentId) -> None:
    """Remove an agent that nothing refers to."""
    Client().delete(at("agents", agent_id))
    render.out.print(f"Agent {agent_id} is removed.")


def _configured(configuration: str | None) -> Json:
    if configuration is None:
        return {}
    return {"configuration": files.parse(configuration, "--configuration", yaml=False)}
