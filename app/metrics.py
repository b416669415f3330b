"""Prometheus metrics. Counters count in the process where the thing happens; gauges are read from Postgres."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from sqlalchemy import text

from app.db import transaction

HTTP_REQUESTS = Counter("http_requests", "HTTP requests answered.", ["method", "route", "status"])
HTTP_SECONDS = Histogram("http_request_duration_seconds", "Time to answer an HTTP request.", ["method", "route"])
TASKS_COMPLETED = Counter("tasks_completed", "Tasks that ended, by terminal state.", ["status"])
TASK_RETRIES = Counter("task_retries", "Attempts that failed and will be tried again.")
LEASES_EXPIRED = Counter("lease_expiries", "Attempts taken back from workers that stopped their heartbeat.")
REDISPATCHES = Counter("redispatches", "Envelopes sent again because nobody claimed the task.")
REDIS_LOSSES = Counter("redis_losses", "Times a clock found Redis new, restarted or flushed, and sent all again.")
PUBLISH_FAILURES = Counter("publish_failures", "Envelopes and notices that Redis did not take in time.")
MESSAGES_DELIVERED = Counter("messages_delivered", "Messages that got their place in an inbox.")
WORKFLOWS_COMPLETED = Counter("workflows_completed", "Workflows that ended, by terminal state.", ["status"])
CANVASES_SENT = Counter("canvases_sent", "Chains and chords sent for workflows.", ["kind"])
CANVASES_OVERDUE = Counter("canvas_tasks_overdue", "Tasks that a chain or chord was to bring and did not in time.")
SANDBOX_RUNS = Counter("sandbox_runs", "Programs run, by sandbox and verdict.", ["sandbox", "verdict"])
SANDBOX_STARTS = Counter("sandbox_starts", "Sandboxes started for a task: cold, or warm from the pool.", ["start"])
SANDBOX_START_SECONDS = Histogram(
    "sandbox_start_seconds",
    "From asking for a sandbox to the start of the program.",
    ["start"],
    buckets=(0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10),
)
SANDBOX_LIMITS = Counter("sandbox_limits_hit", "Limits that programs ran into, by name.", ["limit"])
SANDBOXES_WAITING = Gauge("sandbox_pool_depth", "Sandboxes that are started and wait for a program.")
SANDBOXES_REAPED = Counter("sandbox_orphans_reaped", "Containers of dead workers that were removed.")
MEMORIES_INDEXED = Counter("memories_indexed", "Memories written to the index.")
MEMORY_INDEX_FAILURES = Counter("memory_index_failures", "Memories that could not be indexed, by their own fault.")
MEMORY_SEARCHES = Counter("memory_searches", "Searches answered: whole, or degraded.", ["quality"])

SOCKETS = Gauge("sockets", "WebSocket connections.")
STREAMS = Gauge("streams", "Subscriptions of sockets, and event streams.")
FRAMES = Counter("frames", "Frames of events and messages sent to sockets and event streams.")

# A queued row is not updated until it is claimed: another envelope does not make it younger.
_COUNTS = text(
    """
    SELECT queue, status, count(*) AS tasks,
           extract(epoch FROM now() - min(updated_at))::float AS oldest_s
    FROM tasks WHERE status IN ('pending', 'queued', 'running') GROUP BY queue, status
    """
)
_AGENTS = text("SELECT agent_type, status, count(*) AS agents FROM agents GROUP BY agent_type, status")
_PENDING = text("SELECT count(*) FROM messages WHERE status = 'pending' AND destination_agent_id IS NOT NULL")
_INDEX = text(
    """
    SELECT count(*) FILTER (WHERE failed_at IS NULL) AS pending,
           count(*) FILTER (WHERE failed_at IS NOT NULL) AS failed,
           coalesce(extract(epoch FROM now() - min(queued_at) FILTER (WHERE failed_at IS NULL)), 0)::float AS lag_s
    FROM memory_outbox
    """
)


class DatabaseCollector(Collector):
    """Gauges that only Postgres knows: queues, agents, messages. Registered by the API, so each is exported once."""

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Read the gauges. Raises sqlalchemy.exc.DBAPIError if Postgres is away: the scrape fails and says so."""
        tasks = GaugeMetricFamily("tasks", "Tasks not yet ended.", labels=["queue", "status"])
        oldest = GaugeMetricFamily(
            "queue_oldest_seconds",
            "Seconds the oldest queued task has waited for a worker.",
            labels=["queue"],
        )
        agents = GaugeMetricFamily("agent_status", "Agents by type and status.", labels=["agent_type", "status"])
        messages = GaugeMetricFamily("messages_pending", "Messages accepted and not yet delivered.")
        outbox = GaugeMetricFamily("memory_outbox", "Changes that an index does not know yet.", labels=["state"])
        lag = GaugeMetricFamily("memory_index_lag_seconds", "Age of the oldest change that an index does not know.")
        with transaction() as db:
            for row in db.execute(_COUNTS):
                tasks.add_metric([row.queue, row.status], row.tasks)
                if row.status == "queued":
                    oldest.add_metric([row.queue], row.oldest_s)
            for row in db.execute(_AGENTS):
                agents.add_metric([row.agent_type, row.status], row.agents)
            messages.add_metric([], db.execute(_PENDING).scalar_one())
            behind = db.execute(_INDEX).one()
            outbox.add_metric(["pending"], behind.pending)
            outbox.add_metric(["failed"], behind.failed)
            lag.add_metric([], behind.lag_s)
        yield from (tasks, oldest, agents, messages, outbox, lag)
