"""What must hold once everything is quiet, whatever happened before: read from the database, one query a promise.

Each query returns what breaks its promise, so that none may return a row. I7 and part of I8 concern what is outside of
Postgres and are in `left_behind`.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from contextlib import closing
from pathlib import Path
from typing import Any

import docker
import psycopg2
import redis as redis_
from docker.errors import DockerException
from psycopg2.extras import NamedTupleCursor

from app.settings import Settings
from workers.sandbox.choose import stack_name
from workers.sandbox.profile import INSTANCE, STACK

_ENDS = "('succeeded', 'failed', 'cancelled', 'skipped')"

PROMISES = {
    "I1 every accepted task ends": f"""
        SELECT id, status FROM unnest(%(accepted)s::text[]) AS a (id) LEFT JOIN tasks USING (id)
        WHERE status IS NULL OR status NOT IN {_ENDS}
        UNION SELECT id, status FROM tasks WHERE status NOT IN {_ENDS}
    """,
    "I1 one Idempotency-Key makes one task": """
        SELECT labels->>'key' AS key, count(*) FROM tasks WHERE labels ? 'key' GROUP BY 1 HAVING count(*) > 1
    """,
    "I1 a workflow ends once all of its tasks have, as they did": f"""
        SELECT w.id, w.status FROM workflows w WHERE w.status NOT IN {_ENDS} OR w.status = 'succeeded' AND EXISTS (
            SELECT FROM tasks t WHERE t.workflow_id = w.id AND t.mapped_from IS NULL AND t.status <> 'succeeded')
        UNION SELECT DISTINCT workflow_id, 'is not there' FROM tasks t
        WHERE workflow_id IS NOT NULL AND NOT EXISTS (SELECT FROM workflows w WHERE w.id = t.workflow_id)
    """,
    "I2 a round ends once": f"""
        SELECT t.id, r.round, count(e.seq)
        FROM tasks t CROSS JOIN LATERAL generate_series(1, t.round) AS r (round)
        LEFT JOIN events e ON e.task_id = t.id AND e.round = r.round AND e.kind IN {_ENDS}
        GROUP BY t.id, r.round HAVING count(e.seq) <> 1
    """,
    "I2 the terminal event says what the status says": f"""
        SELECT t.id, t.status, e.kind FROM tasks t
        JOIN events e ON e.task_id = t.id AND e.round = t.round AND e.kind IN {_ENDS} WHERE e.kind <> t.status
    """,
    "I3 at most one attempt of a round succeeds, and one does where the task did": """
        SELECT t.id, r.round, count(a.attempt)
        FROM tasks t CROSS JOIN LATERAL generate_series(1, t.round) AS r (round)
        LEFT JOIN attempts a ON a.task_id = t.id AND a.round = r.round AND a.outcome = 'succeeded'
        GROUP BY t.id, t.status, t.round, r.round
        HAVING count(a.attempt) <> (r.round = t.round AND t.status = 'succeeded')::int
    """,
    "I3 every start is an attempt of its own": """
        SELECT t.id, t.attempt, count(e.seq) AS starts,
               (SELECT count(*) FROM attempts a WHERE a.task_id = t.id) AS attempts
        FROM tasks t LEFT JOIN events e ON e.task_id = t.id AND e.kind = 'running' GROUP BY t.id, t.attempt
        HAVING count(e.seq) <> t.attempt OR count(DISTINCT e.attempt) <> t.attempt
            OR (SELECT count(*) FROM attempts a WHERE a.task_id = t.id) <> t.attempt
    """,
    "I3 attempts end, one before the next begins": """
        SELECT * FROM (
            SELECT task_id, attempt, outcome, ended_at,
                   lead(started_at) OVER (PARTITION BY task_id ORDER BY attempt) AS next FROM attempts
        ) a WHERE ended_at IS NULL OR outcome IS NULL OR ended_at > next
    """,
    "I4 nothing happens after the end, and nothing starts after a cancel was acknowledged": f"""
        SELECT l.task_id, l.seq, l.kind FROM events e
        JOIN events l ON l.task_id = e.task_id AND l.round = e.round AND l.seq > e.seq
        WHERE e.kind IN {_ENDS} OR e.kind = 'cancel_requested' AND l.kind IN ('queued', 'running')
    """,
    "I5 the end is that of the current attempt": f"""
        SELECT t.id, t.attempt, e.attempt AS ended, a.outcome FROM tasks t
        JOIN events e ON e.task_id = t.id AND e.round = t.round AND e.kind IN {_ENDS}
        LEFT JOIN attempts a ON a.task_id = t.id AND a.attempt = t.attempt
        WHERE e.attempt <> t.attempt OR t.status = 'succeeded' AND a.outcome IS DISTINCT FROM 'succeeded'
    """,
    # Each run of a program says a word of its own as it starts: whoever said the one in the result made the result.
    "I5 the result is that of the current attempt": """
        SELECT t.id, t.attempt, e.attempt AS other FROM tasks t
        JOIN events e ON e.task_id = t.id AND e.kind = 'log' AND e.attempt <> t.attempt
        WHERE starts_with(t.result->>'stdout', substring(e.data->>'text' FROM '^run [0-9a-f]{16}'))
    """,
    "I5 an attempt that has lost its lease says nothing more": """
        SELECT * FROM (
            SELECT task_id, seq, attempt, lag(attempt) OVER (PARTITION BY task_id ORDER BY seq) AS before FROM events
        ) e WHERE attempt < before
    """,
    "I6 a child starts after all its parents succeeded": """
        SELECT c.id, p.parent, s.at AS parent_succeeded, r.at AS started FROM tasks c
        CROSS JOIN LATERAL jsonb_array_elements_text(c.dependencies) AS p (parent)
        JOIN events r ON r.task_id = c.id AND r.kind = 'running'
        LEFT JOIN events s ON s.task_id = p.parent AND s.kind = 'succeeded'
        WHERE s.at IS NULL OR s.at > r.at
    """,
    "I8 events are numbered without gaps": """
        SELECT t.id, t.last_seq, count(e.seq), max(e.seq) FROM tasks t LEFT JOIN events e ON e.task_id = t.id
        GROUP BY t.id, t.last_seq HAVING count(e.seq) <> t.last_seq OR max(e.seq) IS DISTINCT FROM t.last_seq
    """,
    "I8 what has ended holds no lease": f"""
        SELECT id FROM tasks WHERE status IN {_ENDS} AND (lease_owner IS NOT NULL OR lease_until IS NOT NULL)
    """,
    "a task that failed had a reason to": """
        SELECT id, failures, infra_failures, error FROM tasks
        WHERE status = 'failed' AND failures < max_attempts AND infra_failures < 3 AND deadline IS NULL
    """,
}

#: Connections that a process keeps in its pool (app/db.py).
_POOL = 10
#: What stays in Redis: Celery's bindings, for six hours the envelopes that a killed worker had, and what tells one life
#: of Redis from the next.
_LASTING = ("_kombu.binding", "unacked", "clawq:epoch")
#: For an hour, the count of a chord whose header did not come to its end. It must not be kept for ever.
_COUNTS = "celery-taskset-meta-"


class Inside:
    """A stack's Postgres and Redis as their administrator sees them: past all links, with reserved connections."""

    def __init__(self, home: Path) -> None:
        self.home = home
        memo = json.loads((home / "postgres.json").read_text())
        self._postgres = {
            "host": "127.0.0.1", "port": memo["port"], "user": "postgres", "password": memo["admin_password"],
            "dbname": "clawq", "application_name": "chaos", "connect_timeout": 10,
        }  # fmt: skip
        memo = json.loads((home / "redis.json").read_text())
        self._redis_url = f"redis://:{memo['password']}@127.0.0.1:{memo['port']}/0"
        self._containers = f"{STACK}={stack_name(Settings(home=home))}"

    def sql(self, statement: str, **params: Any) -> list[Any]:
        """Run one statement in a connection of its own. Raises psycopg2.Error."""
        with closing(self.connect()) as connection:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(statement, params)
                return cursor.fetchall() if cursor.description is not None else []

    def connect(self) -> Any:
        """A connection to Postgres."""
        return psycopg2.connect(**self._postgres, cursor_factory=NamedTupleCursor)

    def redis(self) -> redis_.Redis:
        """A client of Redis."""
        return redis_.Redis.from_url(self._redis_url)

    def containers(self, *, running: bool = False) -> dict[str, str]:
        """This stack's containers by id, each with its instance of a worker; all, or only those that run."""
        try:
            client = docker.from_env()
        except DockerException:
            return {}
        with closing(client):
            found = client.api.containers(all=not running, filters={"label": self._containers})
            return {container["Id"]: container["Labels"][INSTANCE] for container in found}

    def orphans(self, *, running: bool = False) -> list[str]:
        """Ids of containers that no registered worker owns, and of those whose attempts have ended."""
        alive = {row.instance for row in self.sql("SELECT info->>'instance' AS instance FROM workers")}
        ended = {row.container_id for row in self.sql("SELECT container_id FROM attempts WHERE ended_at IS NOT NULL")}
        found = self.containers(running=running).items()
        return [id_ for id_, instance in found if instance not in alive or id_ in ended]

    def keys(self) -> list[str]:
        """The keys in Redis that should go again: queues with envelopes, bells, replies, counts without an end."""
        with self.redis() as redis:
            found = sorted(k for key in redis.scan_iter() if not (k := key.decode()).startswith(_LASTING))
            return [key for key in found if not (key.startswith(_COUNTS) and redis.ttl(key) > 0)]


def check_invariants(inside: Inside, accepted: Collection[str]) -> None:
    """Fail with everything that breaks a promise. To be called when all is quiet.

    Args:
        inside: the stack.
        accepted: ids of the tasks whose POST was answered 2xx.
    """
    broken = {}
    for promise, query in PROMISES.items():
        if rows := inside.sql(query, accepted=list(accepted)):
            broken[promise] = rows[:5]
    assert not broken, "\n".join(f"{promise}: {rows}" for promise, rows in broken.items())


def left_behind(inside: Inside, processes: int) -> dict[str, Any]:
    """I7 and I8: what is still there and should not be. It may take a while to go: a minute at most.

    Containers that have ended wait for the reaper, which comes every ten seconds: `Rig.sweep` looks for those.

    Args:
        inside: the stack.
        processes: how many of its processes have a pool of connections.
    """
    sessions = inside.sql("SELECT pid, state, query FROM pg_stat_activity WHERE application_name = 'clawq'")
    return {
        name: found
        for name, found in {
            "containers": inside.orphans(running=True),
            "keys in Redis": inside.keys(),
            "open transactions": [s for s in sessions if s.state != "idle"],
            "connections": sessions if len(sessions) > processes * _POOL else [],
        }.items()
        if found
    }
