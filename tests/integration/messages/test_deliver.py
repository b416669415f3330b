"""Delivery: each inbox is numbered in the order of acceptance, whoever delivers and however many at once."""

from __future__ import annotations

import json
import re
import threading
from functools import partial

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from app import publisher
from app.db import statements, transaction
from app.messages import deliver as deliver_
from app.messages import find
from app.metrics import MESSAGES_DELIVERED
from tests.integration.messages.hands import a_chat, copies, deliver, inbox, message, some_agents, write
from tests.support import OWNER, Aside, empty_redis, eventually, scalar, sql, together
from workers.messages import deliver_pending

pytestmark = pytest.mark.usefixtures("clawq")

_INDEX = re.compile(r"(?:Index (?:Only )?Scan using|Bitmap Index Scan on) ((?:messages|inboxes)\w+)")


def test_letters_get_their_numbers_in_the_order_of_acceptance() -> None:
    a, b, c = some_agents(3)
    to_b = [write(a, b), write(c, b), write(a, b)]
    to_c = [write(a, c)]
    before = MESSAGES_DELIVERED._value.get()
    deliver()
    assert inbox(b) == list(enumerate(to_b, start=1))
    assert inbox(c) == list(enumerate(to_c, start=1))
    assert MESSAGES_DELIVERED._value.get() - before == 4
    letter = message(to_b[0])
    assert letter.status == "sent"
    assert letter.created_at <= letter.sent_at
    to_b.append(write(c, b))
    deliver()
    assert inbox(b) == list(enumerate(to_b, start=1))


def test_each_owner_s_letters_to_an_agent_are_counted_apart() -> None:
    a, b = some_agents(2)
    ids = {owner: [write(a, b, owner=owner) for _ in range(2)] for owner in ("ada", "bob", "ada")}
    deliver()
    for owner in ("ada", "bob"):
        assert [seq for seq, _ in inbox(b, owner)] == list(range(1, len(inbox(b, owner)) + 1))
        assert set(ids[owner]) <= {one for _, one in inbox(b, owner)}
    assert {one for _, one in inbox(b, "ada")} & {one for _, one in inbox(b, "bob")} == set()


def test_a_backlog_is_worked_off_batch_by_batch_and_no_inbox_waits_for_another(clawq: pytest.MonkeyPatch) -> None:
    clawq.setattr(deliver_, "BATCH", 6)
    clawq.setattr(deliver_, "INBOXES", 3)
    a, *others = some_agents(5)
    long = [write(a, others[0]) for _ in range(10)]
    short = [write(a, other) for other in others[1:]]
    with statements() as db:
        assert deliver_.deliver(db)
    assert [len(inbox(other)) for other in others] == [2, 1, 1, 0], "those whose letters are oldest"
    deliver()
    assert inbox(others[0]) == list(enumerate(long, start=1))
    assert [inbox(other) for other in others[1:]] == [[(1, one)] for one in short]
    with statements() as db:
        assert not deliver_.deliver(db), "nothing waits any more"


def test_an_inbox_that_another_delivers_to_is_passed_over_and_looked_at_again() -> None:
    a, b, c = some_agents(3)
    ids = [write(a, b)]
    deliver()
    ids.append(write(a, b))
    with transaction() as one:
        assert deliver_.deliver(one)
        ids.append(write(a, b))
        other = write(a, c)
        with transaction() as two:
            assert deliver_.deliver(two)
        with transaction() as three:
            assert not deliver_.deliver(three)
        assert inbox(b) == [(1, ids[0])]
        assert inbox(c) == [(1, other)]
    with transaction() as one:
        assert deliver_.deliver(one)
    assert inbox(b) == list(enumerate(ids, start=1))


def test_two_that_make_the_same_inboxes_wait_for_each_other_and_number_nothing_twice() -> None:
    a, b, c = some_agents(3)
    ids = [write(a, b), write(a, c)]
    with transaction() as one:
        assert deliver_.deliver(one)
        other = Aside(deliver_.deliver)
        eventually(other.is_blocked)
    assert not other.join()
    assert inbox(b) + inbox(c) == [(1, ids[0]), (1, ids[1])]


def test_several_deliverers_at_once_keep_each_sender_s_order_and_leave_no_gap() -> None:
    receivers, senders = some_agents(3), some_agents(4)
    written: dict[tuple[str, str], list[str]] = {}
    over = threading.Event()

    def sending(sender: str) -> None:
        for number in range(30):
            receiver = receivers[number % 3]
            written.setdefault((sender, receiver), []).append(write(sender, receiver))

    def delivering() -> None:
        while not over.is_set():
            deliver_pending.run()

    def all_sending() -> None:
        try:
            failed = [result for result in together(*(partial(sending, one) for one in senders)) if result]
        finally:
            over.set()
        assert not failed

    assert together(all_sending, *[delivering] * 3) == [None] * 4
    deliver()
    for receiver in receivers:
        shown = inbox(receiver)
        assert [seq for seq, _ in shown] == list(range(1, 41))
        for sender in senders:
            mine = written[sender, receiver]
            assert [one for _, one in shown if one in mine] == mine


def test_a_post_is_sent_once_all_of_its_copies_are(clawq: pytest.MonkeyPatch) -> None:
    clawq.setattr(deliver_, "INBOXES", 1)
    a, b, c = some_agents(3)
    post = write(a, groupchat_id=a_chat(a, b, c))
    with statements() as db:
        deliver_.deliver(db)
    assert sorted(copy.status for copy in copies(post).values()) == ["pending", "sent"]
    assert message(post).status == "pending"
    deliver()
    assert message(post).status == "sent"
    assert message(post).seq is None
    assert message(post).sent_at >= max(copy.sent_at for copy in copies(post).values())


def test_deliverers_that_have_a_copy_each_agree_on_the_post() -> None:
    a, b, c = some_agents(3)
    for receiver in (b, c):
        write(a, receiver)
    deliver()
    post = write(a, groupchat_id=a_chat(a, b, c))
    with transaction() as one:
        # Holds what the other would otherwise deliver.
        one.connection().exec_driver_sql("SELECT FROM inboxes WHERE agent_id = %s FOR UPDATE", (c,))
        other = Aside(deliver_.deliver)
        eventually(other.is_over)
        other.join()
        assert message(post).status == "pending"
    deliver()
    assert message(post).status == "sent"


def test_whoever_watches_the_agents_is_told() -> None:
    a, b, c = some_agents(3)
    with publisher.client().pubsub(ignore_subscribe_messages=True) as listener:
        listener.subscribe(publisher.NEWS)
        listener.get_message(timeout=5)
        write(a, b)
        write(a, groupchat_id=a_chat(b, c))
        deliver()
        told = eventually(lambda: listener.get_message(timeout=1))
        assert set(json.loads(told["data"])) == {b, c}


def test_the_clock_rings_for_what_nobody_was_rung_for() -> None:
    a, b = some_agents(2)
    write(a, b)
    for age, rung in (("0 s", 0), ("1 hour", 1)):
        sql("UPDATE messages SET created_at = now() - CAST(:age AS interval)", age=age)
        empty_redis()
        with transaction() as db:
            deliver_.ring_due(db)
        assert publisher.client().llen("gateway") == rung
    deliver()
    empty_redis()
    with transaction() as db:
        deliver_.ring_due(db)
    assert publisher.client().llen("gateway") == 0


def test_the_database_itself_gives_a_number_once() -> None:
    a, b = some_agents(2)
    write(a, b)
    write(a, b)
    deliver()
    with pytest.raises(IntegrityError, match="messages_one_a_seq"):
        sql("UPDATE messages SET seq = 1")
    assert scalar("SELECT last_seq FROM inboxes") == 2


@pytest.mark.parametrize(
    ("name", "needed"),
    [
        ("deliver_make", {"messages_idx_pending", "inboxes_pkey"}),
        ("deliver_hold", {"messages_idx_pending", "inboxes_pkey"}),
        ("deliver_number", {"messages_idx_pending", "inboxes_pkey", "messages_pkey"}),
        ("inbox_any", {"messages_idx_inbox"}),
    ],
)
def test_what_waits_is_found_by_its_inbox_even_where_all_else_looks_as_cheap(name: str, needed: set[str]) -> None:
    a, b = some_agents(2)
    write(a, b)
    deliver()
    with statements() as db:
        deliver_.deliver(db)
        find.has_letters(db, OWNER, b, 0)
        prepared = "SELECT cardinality(parameter_types) FROM pg_prepared_statements WHERE name = :name"
        count = db.execute(text(prepared), {"name": f"clawq_{name}"}).scalar_one()
        given = f"({', '.join(['NULL'] * count)})" if count else ""
        plan = "\n".join(db.execute(text(f"EXPLAIN EXECUTE clawq_{name} {given}")).scalars())
    assert set(_INDEX.findall(plan)) == needed, plan
    assert "Seq Scan" not in plan
