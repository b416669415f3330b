"""A worker that cannot work says so and ends, before Celery goes on without it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from app.settings import settings
from workers import lifecycle


def test_a_worker_without_redis_ends_with_one_sentence(clawq: pytest.MonkeyPatch, tmp_path: Path) -> None:
    clawq.chdir(tmp_path)
    clawq.delenv("REDIS_URL")
    settings.cache_clear()
    amqp = SimpleNamespace(queues=SimpleNamespace(consume_from=["gateway"]))
    sender = SimpleNamespace(app=SimpleNamespace(amqp=amqp), hostname="gateway@test", concurrency=1)
    with pytest.raises(SystemExit, match="The worker cannot start: REDIS_URL is not set"):
        lifecycle._start(sender)
