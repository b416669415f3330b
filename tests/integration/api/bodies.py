"""Examples of every body, about somebody's things. Together those of a model hold every text that it may hold."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pydantic import BaseModel

from api.payloads.group import AgentIn, AgentPatchIn
from api.payloads.groupchats import GroupChatIn, GroupChatPatchIn
from api.payloads.keys import KeyIn
from api.payloads.live import TicketIn
from api.payloads.memories import MemoryBatchIn, MemoryImportIn, MemoryPatchIn
from api.payloads.memory_index import VerifyIn
from api.payloads.messages import MessageIn
from api.payloads.sessions import SessionIn, SessionPatchIn
from api.payloads.tasks import RetryIn, TaskBatchIn, TaskIn
from api.payloads.workflows import RerunIn, WorkflowIn
from app.memory.payloads import ConsolidatePayload, ForgetPayload, SearchPayload, StorePayload
from tests.things import AGENT, Things

Bodies = list[dict[str, Any]]


def payloads(mine: Things) -> Mapping[str, Bodies]:
    """The same for the payloads of all task types."""
    run = {
        "stdin": "in", "args": ["one"], "env": {"A": "b"}, "files": {"a": "text", "b": {"base64": "YQ=="}},
        "network": "none",
    }  # fmt: skip
    program = [{"code": "print(1)", **run}, {"argv": ["true"], **run}]
    return {
        "echo": [{"text": "tea"}],
        "python": program,
        "shell": [{"code": "true"}],
        "javascript": [{"code": "1"}],
        "container": [{"image": "tea:1", "argv": ["true"], **run}],
        "memory.store": _store(mine),
        "memory.search": _search(mine),
        "memory.forget": _forget(mine),
        "memory.consolidate": _consolidate(mine),
    }


def _work(mine: Things) -> dict[str, Any]:
    return {
        "task_type": "echo", "payload": {"text": "tea"}, "description": "tea", "assigned_to": AGENT,
        "labels": {"drink": "tea"},
    }  # fmt: skip


def _task(mine: Things) -> Bodies:
    """One that holds all, and one for each payload."""
    whole = _work(mine) | {"dependencies": [mine.one("task_id")], "session_id": mine.one("session_id")}
    each = [{"task_type": name, "payload": payload} for name, some in payloads(mine).items() for payload in some]
    # Whom it is assigned to decides much; without, it waits for whoever comes.
    return [whole, {name: value for name, value in whole.items() if name != "assigned_to"}, *each]


def _batch(mine: Things) -> Bodies:
    return [{"tasks": [_task(mine)[1], _task(mine)[0]]}, {"tasks": [_task(mine)[1]]}]


def _workflow(mine: Things) -> Bodies:
    step = _work(mine) | {"key": "a", "map": ["one"]}
    last = {"key": "b", "task_type": "echo", "payload": {"of": {"$ref": "tasks.a.result"}}, "depends_on": ["a"]}
    whole = {
        "name": "tea", "description": "tea", "input": {"text": "tea"}, "labels": {"drink": "tea"},
        "session_id": mine.one("session_id"), "tasks": [step, last | {"when": {"$ref": "input.text"}}],
    }  # fmt: skip
    each = [
        {"key": "a", "task_type": name, "payload": some[0]}
        for name, some in payloads(mine).items()
        if name.startswith("memory")
    ]
    plain = {"key": "a", "task_type": "echo", "payload": {}}
    return [whole, {"name": "tea", "session_id": mine.one("session_id"), "tasks": [plain, last]}, *(
        {"name": "tea", "tasks": [step]} for step in each
    )]  # fmt: skip


def _scope(mine: Things) -> dict[str, Any]:
    return {"agent_id": AGENT, "session_id": mine.one("session_id"), "user_id": "grace"}


def _store(mine: Things) -> Bodies:
    new = {"memory_type": "semantic", "content": "tea at six", "metadata": {"text": "tea"}, **_scope(mine)}
    return [new | {"supersedes": [mine.one("memory_id")]}, new]


def _remember(mine: Things) -> Bodies:
    return [{"memories": _store(mine)}]


def _search(mine: Things) -> Bodies:
    return [{"query": "tea", **_scope(mine), "filter": {"of": mine.secret}}, {"query": "secret tea", "explain": True}]


def _forget(mine: Things) -> Bodies:
    scope = _scope(mine) | {"filter": {"of": mine.secret}}
    return [scope, {"ids": [mine.one("memory_id")]}, {"all": True}, *({name: scope[name]} for name in scope)]


def _consolidate(mine: Things) -> Bodies:
    return [_scope(mine) | {"filter": {"of": mine.secret}}, {"threshold": 0.8}]


def _restore(mine: Things) -> Bodies:
    at = "2020-01-01T00:00:00Z"
    was = {
        "memory_type": "semantic", "content": "cold tea", "metadata": {"text": "tea"}, "version": 1, "updated_at": at,
        "replaced_at": at, "status": "superseded", "replaced_by": mine.one("memory_id"),
    }  # fmt: skip
    document = {
        "id": "tea-1", "memory_type": "semantic", "content": "tea", "metadata": {"text": "tea"}, "version": 2,
        "status": "superseded", "replaced_by": mine.one("memory_id"), "history": [was], **_scope(mine),
    }  # fmt: skip
    return [{"memories": [document]}]


def _agent(mine: Things) -> Bodies:
    configuration = {
        "task_types": ["echo"], "sandbox": {"images": {"python": "python:3.11"}, "runtime": "runsc"},
    }  # fmt: skip
    return [
        {"name": "a", "role": "r", "goal": "g", "agent_type": "t", "backstory": "b", "configuration": configuration}
    ]


def _changed_agent(mine: Things) -> Bodies:
    return [{name: value for name, value in _agent(mine)[0].items() if name != "agent_type"}]


def _chat(mine: Things) -> Bodies:
    return [{"name": "tea", "agents": [AGENT], "description": "tea"}]


def _message(mine: Things) -> Bodies:
    letter = {
        "source_agent_id": AGENT, "message_type": "text", "content": "tea", "metadata": {"text": "tea"},
        "session_id": mine.one("session_id"),
    }  # fmt: skip
    return [letter | {"destination_agent_id": AGENT}, letter | {"groupchat_id": mine.one("groupchat_id")}]


#: Model of a body → examples of it.
BODIES: Mapping[type[BaseModel], Callable[[Things], Bodies]] = {
    TaskIn: _task,
    TaskBatchIn: _batch,
    RetryIn: lambda mine: [{"payload": {"text": "tea"}}, {}],
    WorkflowIn: _workflow,
    RerunIn: lambda mine: [{"input": {"text": "tea"}}, {}],
    StorePayload: _store,
    MemoryBatchIn: _remember,
    MemoryPatchIn: lambda mine: [{"content": "more tea", "metadata": {"text": "tea"}}],
    MemoryImportIn: _restore,
    SearchPayload: _search,
    ForgetPayload: _forget,
    ConsolidatePayload: _consolidate,
    VerifyIn: lambda mine: [{}],
    AgentIn: _agent,
    AgentPatchIn: _changed_agent,
    SessionIn: lambda mine: [{"session_type": "chat", "user_id": "grace", "metadata": {"text": "tea"}}],
    SessionPatchIn: lambda mine: [{"session_type": "chat", "user_id": "grace", "metadata": {"text": "tea"}}],
    GroupChatIn: _chat,
    GroupChatPatchIn: _chat,
    MessageIn: _message,
    TicketIn: lambda mine: [{}],
    KeyIn: lambda mine: [{"name": "k", "scopes": ["read"], "owner": mine.owner}],
}
