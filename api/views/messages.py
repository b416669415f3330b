"""Messages: send, list, show; and inboxes, which show a letter until it is acknowledged."""

from __future__ import annotations

from sqlalchemy.orm import Session

from api.endpoints import PREFIX, Reply, Section
from api.news import wait_for_end
from api.payloads.messages import InboxPage, InboxQuery, MessageIn, MessageListQuery, MessageOut, MessagePage
from app import agents
from app.db import single, transaction
from app.keys import Caller
from app.messages import find
from app.messages.acknowledge import acknowledge
from app.messages.send import send

section = Section("Messages")


@section.route(
    "POST",
    "/messages",
    scope="submit",
    answers={201: MessageOut},
    conflicts="The session or the group chat is closed.",
    creates=True,
    refers=True,
)
def send_message(db: Session, caller: Caller, body: MessageIn) -> Reply:
    """Send a message to an agent, or to all members of a group chat but the sender.

    It is stored when this answers, and the gateway brings it to the inbox. What one sender sends later, comes later.
    """
    sent = send(db, caller.owner, body.to_new_message())
    return Reply(MessageOut.model_validate(sent), 201, location=f"{PREFIX}/messages/{sent.id}")


@section.route("GET", "/messages", scope="read", answers={200: MessagePage})
def list_messages(db: Session, caller: Caller, query: MessageListQuery) -> Reply:
    """List messages, the newest first, as they were posted: with a destination or a post, copies too."""
    found, next_cursor = find.find(db, query.wanted(caller.sees), query.cursor, query.limit)
    return Reply(MessagePage(items=[MessageOut.model_validate(m) for m in found], next_cursor=next_cursor))


@section.route("GET", "/messages/<message_id>", scope="read", answers={200: MessageOut})
def show_message(db: Session, caller: Caller, message_id: str) -> Reply:
    """Show a message."""
    return Reply(MessageOut.model_validate(find.get(db, message_id, caller.sees)))


@section.route(
    "POST",
    "/messages/<message_id>/ack",
    scope="submit",
    answers={200: MessageOut},
    conflicts="It is in no inbox yet, or it is a post, whose copies are acknowledged.",
)
def acknowledge_message(db: Session, caller: Caller, message_id: str) -> Reply:
    """Acknowledge a message: the inbox shows it no more. Acknowledging twice is harmless."""
    find.get(db, message_id, caller.sees)
    acknowledge(db, message_id)
    return Reply(MessageOut.model_validate(find.get(db, message_id, caller.sees)))


@section.route("GET", "/agents/<agent_id>/inbox", scope="read", answers={200: InboxPage})
def show_inbox(agent_id: str, caller: Caller, query: InboxQuery) -> Reply:
    """Show an agent's letters of yours that are not acknowledged, in order; with `wait`, once there is one.

    A letter is shown again and again until it is acknowledged.
    """
    page = _inbox(agent_id, caller, query)
    if query.wait == 0 or page.items:
        return Reply(page)
    if not wait_for_end(agent_id, caller.owner, query.wait, lambda: _has_letters(agent_id, caller, query)):
        return Reply(page, headers={"Retry-After": "1"})
    return Reply(_inbox(agent_id, caller, query))


def _inbox(agent_id: str, caller: Caller, query: InboxQuery) -> InboxPage:
    with transaction() as db:
        agents.get(db, agent_id)
        found, next_cursor = find.inbox(db, caller.owner, agent_id, query.after, query.limit)
    return InboxPage(items=[MessageOut.model_validate(m) for m in found], next_cursor=next_cursor)


def _has_letters(agent_id: str, caller: Caller, query: InboxQuery) -> bool:
    with single() as db:
        return find.has_letters(db, caller.owner, agent_id, query.after)
