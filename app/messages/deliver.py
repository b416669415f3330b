"""Deliver: give accepted letters their places in the inboxes. What the gateway does, and safe from several at once.

Whoever numbers an inbox holds its row, and looks at what waits only then: so letters get their numbers in the order in
which they were accepted, whoever delivers. The commit waits for the disk, for a number that was seen must stay.
"""

from __future__ import annotations

from functools import partial

from sqlalchemy import text

from app import metrics, publisher
from app.db import Db, after_commit
from app.messages import posts
from app.prepared import prepared

#: Letters of one transaction, and inboxes: each of these gets at least one letter.
BATCH = 1000
INBOXES = 500

# The inboxes that letters wait for, and the oldest of each: the recursion jumps from one inbox to the next in
# messages_idx_pending.
_WAITING = """
    WITH RECURSIVE waiting AS (
        (SELECT owner, destination_agent_id, position FROM messages
         WHERE status = 'pending' AND destination_agent_id IS NOT NULL
         ORDER BY owner, destination_agent_id, position LIMIT 1)
        UNION ALL
        SELECT n.* FROM waiting w CROSS JOIN LATERAL (
            SELECT owner, destination_agent_id, position FROM messages
            WHERE status = 'pending' AND destination_agent_id IS NOT NULL
              AND (owner, destination_agent_id) > (w.owner, w.destination_agent_id)
            ORDER BY owner, destination_agent_id, position LIMIT 1
        ) n
    )
"""
# In one order, since two that make the same ones wait for each other. OFFSET 0, and FOR UPDATE in a LATERAL: each is
# found by its key, however many inboxes there are.
_MAKE = prepared(
    "deliver_make",
    f"""
    {_WAITING}
    INSERT INTO inboxes (owner, agent_id)
    SELECT w.owner, w.destination_agent_id FROM waiting w
    WHERE NOT EXISTS (
        SELECT FROM inboxes i WHERE i.owner = w.owner AND i.agent_id = w.destination_agent_id OFFSET 0
    )
    ORDER BY w.owner, w.destination_agent_id
    ON CONFLICT DO NOTHING
    """,  # noqa: S608
)
_HOLD = prepared(
    "deliver_hold",
    f"""
    {_WAITING}
    SELECT i.owner, i.agent_id
    FROM (SELECT * FROM waiting ORDER BY position) w
    CROSS JOIN LATERAL (
        SELECT owner, agent_id FROM inboxes
        WHERE owner = w.owner AND agent_id = w.destination_agent_id FOR UPDATE SKIP LOCKED
    ) i
    LIMIT :inboxes
    """,  # noqa: S608
)
_NUMBER = prepared(
    "deliver_number",
    """
    WITH n AS (
        SELECT m.id, i.last_seq + row_number() OVER (PARTITION BY i.owner, i.agent_id ORDER BY m.position) AS seq
        FROM unnest(CAST(:owners AS text[]), CAST(:agents AS text[])) AS held (owner, agent_id)
        JOIN inboxes i USING (owner, agent_id)
        CROSS JOIN LATERAL (
            SELECT id, position FROM messages
            WHERE status = 'pending' AND owner = i.owner AND destination_agent_id = i.agent_id
            ORDER BY position LIMIT :most
        ) m
    ), u AS (
        UPDATE messages m SET status = 'sent', seq = n.seq, sent_at = clock_timestamp()
        FROM n WHERE m.id = n.id
        RETURNING m.owner, m.destination_agent_id, m.seq, m.post_id
    ), i AS (
        UPDATE inboxes i SET last_seq = l.seq
        FROM (SELECT owner, destination_agent_id, max(seq) AS seq FROM u GROUP BY owner, destination_agent_id) AS l
        WHERE i.owner = l.owner AND i.agent_id = l.destination_agent_id
    )
    SELECT destination_agent_id, post_id FROM u
    """,
)
_DUE = text(
    """
    SELECT EXISTS (SELECT FROM messages WHERE status = 'pending' AND destination_agent_id IS NOT NULL
                   AND created_at < now() - interval '1 second')
    """
)


def deliver(db: Db) -> bool:
    """Deliver a batch.

    Returns:
        Whether it held inboxes, and so has to look again once it has committed: others passed these over.
    """
    db.execute(_MAKE)
    held = db.execute(_HOLD, {"inboxes": INBOXES}).all()
    if not held:
        return False
    params = {
        "owners": [inbox.owner for inbox in held],
        "agents": [inbox.agent_id for inbox in held],
        "most": max(1, BATCH // len(held)),
    }
    sent = db.execute(_NUMBER, params).all()
    posts.sent(db, {letter.post_id for letter in sent if letter.post_id is not None})
    publisher.tell_after(db, {letter.destination_agent_id for letter in sent})
    after_commit(db, "messages.count", partial(metrics.MESSAGES_DELIVERED.inc, len(sent)))
    return True


def ring_due(db: Db) -> None:
    """The clock's duty: ring the deliverer if a letter waits that nobody was rung for."""
    if db.execute(_DUE).scalar_one():
        after_commit(db, "messages.deliver", publisher.ring_deliverer)
