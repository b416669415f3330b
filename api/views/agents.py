"""Agents: the members of the group."""

from __future__ import annotations

from sqlalchemy.orm import Session

from api.endpoints import PREFIX, Reply, Section
from api.payloads.group import AgentIn, AgentListQuery, AgentOut, AgentPage, AgentPatchIn
from app import agents

section = Section("Agents")


@section.route("POST", "/agents", scope="admin", answers={201: AgentOut}, creates=True)
def create_agent(db: Session, body: AgentIn) -> Reply:
    """Add an agent of your own. Agents of the four roles register themselves."""
    agent = agents.create(db, **body.model_dump(exclude_unset=True))
    return Reply(AgentOut.model_validate(agent), 201, location=f"{PREFIX}/agents/{agent.id}")


@section.route("GET", "/agents", scope="read", answers={200: AgentPage})
def list_agents(db: Session, query: AgentListQuery) -> Reply:
    """List agents, the newest first."""
    found, next_cursor = agents.find(
        db, agent_type=query.agent_type, status=query.status, cursor=query.cursor, limit=query.limit
    )
    return Reply(AgentPage(items=[AgentOut.model_validate(a) for a in found], next_cursor=next_cursor))


@section.route("GET", "/agents/<agent_id>", scope="read", answers={200: AgentOut})
def show_agent(db: Session, agent_id: str) -> Reply:
    """Show an agent."""
    return Reply(AgentOut.model_validate(agents.get(db, agent_id)))


@section.route(
    "PATCH",
    "/agents/<agent_id>",
    scope="admin",
    answers={200: AgentOut},
    conflicts="The status of a role's agent follows its workers' heartbeats.",
)
def update_agent(db: Session, agent_id: str, body: AgentPatchIn) -> Reply:
    """Change an agent; what is left out stays."""
    return Reply(AgentOut.model_validate(agents.update(db, agent_id, **body.model_dump(exclude_unset=True))))


@section.route(
    "DELETE",
    "/agents/<agent_id>",
    scope="admin",
    answers={204: None},
    conflicts="Tasks, messages, group chats, memories or workers refer to it; set it inactive instead.",
)
def delete_agent(db: Session, agent_id: str) -> Reply:
    """Remove an agent that nothing refers to."""
    agents.delete(db, agent_id)
    return Reply(http_status=204)
