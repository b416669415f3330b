"""Group chats: make, list, show, change and remove."""

from __future__ import annotations

from sqlalchemy.orm import Session

from api.endpoints import PREFIX, Reply, Section
from api.payloads.groupchats import (
    GroupChatIn,
    GroupChatListQuery,
    GroupChatOut,
    GroupChatPage,
    GroupChatPatchIn,
)
from app import groupchats
from app.keys import Caller

section = Section("Group chats")


@section.route("POST", "/groupchats", scope="submit", answers={201: GroupChatOut}, creates=True, refers=True)
def create_groupchat(db: Session, caller: Caller, body: GroupChatIn) -> Reply:
    """Make a group chat: a message to it reaches every member but its sender."""
    chat = groupchats.create(db, caller.owner, **body.model_dump(exclude_unset=True))
    return Reply(GroupChatOut.model_validate(chat), 201, location=f"{PREFIX}/groupchats/{chat.id}")


@section.route("GET", "/groupchats", scope="read", answers={200: GroupChatPage})
def list_groupchats(db: Session, caller: Caller, query: GroupChatListQuery) -> Reply:
    """List group chats, the newest first."""
    wanted = groupchats.Filter(owner=caller.sees, status=query.status, name=query.name)
    found, next_cursor = groupchats.find(db, wanted, query.cursor, query.limit)
    return Reply(GroupChatPage(items=[GroupChatOut.model_validate(c) for c in found], next_cursor=next_cursor))


@section.route("GET", "/groupchats/<groupchat_id>", scope="read", answers={200: GroupChatOut})
def show_groupchat(db: Session, caller: Caller, groupchat_id: str) -> Reply:
    """Show a group chat."""
    return Reply(GroupChatOut.model_validate(groupchats.get(db, groupchat_id, caller.sees)))


@section.route("PATCH", "/groupchats/<groupchat_id>", scope="submit", answers={200: GroupChatOut}, refers=True)
def update_groupchat(db: Session, caller: Caller, groupchat_id: str, body: GroupChatPatchIn) -> Reply:
    """Change a group chat, or close it; what is left out stays."""
    changes = body.model_dump(exclude_unset=True)
    return Reply(GroupChatOut.model_validate(groupchats.update(db, groupchat_id, caller.sees, **changes)))


@section.route(
    "DELETE",
    "/groupchats/<groupchat_id>",
    scope="submit",
    answers={204: None},
    conflicts="There are messages in it; close it instead.",
)
def delete_groupchat(db: Session, caller: Caller, groupchat_id: str) -> Reply:
    """Remove a group chat that nothing was posted to."""
    groupchats.delete(db, groupchat_id, caller.sees)
    return Reply(http_status=204)
