"""Operations: queues and workers for people, probes and metrics for machines."""

from __future__ import annotations

from functools import cache

import httpx
import redis
from flask import Response
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, generate_latest
from sqlalchemy import text
from sqlalchemy.exc import ProgrammingError, SQLAlchemyError
from sqlalchemy.orm import Session

from api.endpoints import Reply, Section
from api.payloads.group import QueueOut, QueuePage, WorkerOut, WorkerPage
from api.payloads.operations import CheckOut, HealthOut, ReadyOut
from app import agents, publisher
from app.db import transaction
from app.errors import SettingsError
from app.memory import heartbeat
from app.metrics import DatabaseCollector
from app.settings import settings
from schema import migrate

section = Section("Operations")
probes = Section("Probes", prefix="")

_REVISION = text("SELECT version_num FROM alembic_version")
_newest = cache(migrate.newest)

#: Less than the second that a prober gives an answer by default.
_CHROMA_S = 0.5


@section.route("GET", "/queues", scope="read", answers={200: QueuePage})
def list_queues(db: Session) -> Reply:
    """List the queues and what they hold, over all owners."""
    return Reply(QueuePage(items=[QueueOut(**queue) for queue in agents.queues(db)]))


@section.route("GET", "/workers", scope="read", answers={200: WorkerPage})
def list_workers(db: Session) -> Reply:
    """List the worker processes."""
    return Reply(WorkerPage(items=[WorkerOut.model_validate(w) for w in agents.workers(db)]))


@probes.route("GET", "/health", scope=None, answers={200: HealthOut})
def health() -> Reply:
    """Say that the process lives; asks nobody else."""
    return Reply(HealthOut())


@probes.route("GET", "/ready", scope=None, answers={200: ReadyOut, 503: ReadyOut})
def ready() -> Reply:
    """Say whether requests can be answered: Postgres does, and its schema is the newest.

    Redis and Chroma are reported, but their absence makes nothing unready: what is accepted is in Postgres.
    """
    checks = {"postgres": _check_postgres(), "redis": _check_redis(), "chroma": _check_chroma()}
    is_ready = all(check.ok for check in checks.values() if check.required)
    return Reply(ReadyOut(status="ready" if is_ready else "not_ready", checks=checks), 200 if is_ready else 503)


@probes.route("GET", "/metrics", scope=None, answers={200: None}, media_type="text/plain")
def show_metrics() -> Response:
    """Show the metrics of this process and of the database, in Prometheus' text format."""
    return Response(generate_latest(_registry()), content_type=CONTENT_TYPE_LATEST)


@cache
def _registry() -> CollectorRegistry:
    # Without auto_describe nothing is collected, and Postgres not asked, when the collector registers.
    registry = CollectorRegistry(auto_describe=False)
    registry.register(REGISTRY)
    registry.register(DatabaseCollector())
    return registry


def _check_postgres() -> CheckOut:
    try:
        with transaction() as db:
            revision = db.execute(_REVISION).scalar()
    except ProgrammingError:
        revision = None
    except (SQLAlchemyError, SettingsError) as exc:
        # Which kind of failure, but not the text: that names hosts, and this path is open.
        return CheckOut(ok=False, required=True, detail=f"no answer ({type(exc).__name__})")
    if revision != _newest():
        return CheckOut(
            ok=False, required=True, detail=f"schema is at {revision}, not {_newest()}: run `clawq migrate`"
        )
    return CheckOut(ok=True, required=True, detail=f"schema {revision}")


def _check_redis() -> CheckOut:
    try:
        publisher.client().ping()
    except (redis.RedisError, OSError, SettingsError) as exc:
        return CheckOut(ok=False, required=False, detail=f"no answer ({type(exc).__name__})")
    return CheckOut(ok=True, required=False, detail="answers")


def _check_chroma() -> CheckOut:
    try:
        heartbeat.listen(settings().require_vector_db_url(), _CHROMA_S)
    except (httpx.HTTPError, SettingsError) as exc:
        return CheckOut(ok=False, required=False, detail=f"no answer ({type(exc).__name__})")
    return CheckOut(ok=True, required=False, detail="answers")
