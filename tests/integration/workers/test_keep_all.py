"""How a worker keeps the files of an attempt while Postgres is away, slow or against it."""

from __future__ import annotations

import io
import threading
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from app.db import transaction
from app.settings import settings
from app.tasks import artifacts as verbs
from tests.support import SUCCEEDED, end, eventually, running, scalar, together
from workers import artifacts as artifacts_
from workers.artifacts import keep_all
from workers.sandbox.spec import Artifact

pytestmark = pytest.mark.usefixtures("clawq")


def files(*names: str, content: bytes = b"abc") -> list[Artifact]:
    return [Artifact(name=name, size=len(content), content=io.BytesIO(content)) for name in names]


def kept(task_id: str) -> list[str]:
    with transaction() as db:
        return [one.name for one in verbs.listing(db, task_id)]


def away(*_: Any) -> bool:
    raise OperationalError("INSERT", {}, Exception("connection refused"))


def test_all_are_kept_and_closed() -> None:
    ours, given = running(), files("a", "b/c")
    assert keep_all(ours, given)
    assert all(one.content.closed for one in given)
    end((ours, SUCCEEDED))
    assert kept(ours.id) == ["a", "b/c"]
    assert keep_all(ours, []), "nothing to keep is no loss"


def test_a_lost_attempt_keeps_none_and_closes_all() -> None:
    ours, given = running(), files("a", "b")
    end((ours, SUCCEEDED))
    assert keep_all(ours, given) is False
    assert all(one.content.closed for one in given)
    assert kept(ours.id) == []


def test_a_file_is_kept_whole_once_postgres_takes_it(clawq: pytest.MonkeyPatch) -> None:
    ours, given = running(), files("a")
    failures = iter([True, True])

    def flaky(*args: Any) -> bool:
        answer = verbs.keep(*args)
        return away() if next(failures, False) else answer

    clawq.setattr(artifacts_, "keep", flaky)
    assert keep_all(ours, given)
    assert scalar("SELECT convert_from(content, 'UTF8') FROM artifacts") == "abc"


def test_what_cannot_be_kept_within_a_lease_is_an_error_and_all_are_closed(clawq: pytest.MonkeyPatch) -> None:
    ours, given = running(), files("a", "b")
    clawq.setenv("CLAWQ_LEASE_S", "1")
    settings.cache_clear()
    clawq.setattr(artifacts_, "keep", away)
    with pytest.raises(OperationalError):
        keep_all(ours, given)
    assert all(one.content.closed for one in given)


def test_a_file_that_takes_postgres_too_long_is_not_tried_again(clawq: pytest.MonkeyPatch) -> None:
    tries = []

    def slow(db: Any, *_: Any) -> None:
        tries.append(1)
        db.execute(text("SET LOCAL statement_timeout = 1; SELECT pg_sleep(1)"))

    clawq.setattr(artifacts_, "keep", slow)
    with pytest.raises(OperationalError, match="statement timeout"):
        keep_all(running(), files("a", "b"))
    assert len(tries) == 1


def test_two_slots_write_at_once_and_no_more(clawq: pytest.MonkeyPatch) -> None:
    claims = [running() for _ in range(6)]
    inside, most, lock = 0, 0, threading.Lock()
    both = threading.Event()

    def counted(*args: Any) -> bool:
        nonlocal inside, most
        with lock:
            inside += 1
            most = max(most, inside)
            if inside == 2:
                both.set()
        assert both.wait(20), "only one writes"
        answer = verbs.keep(*args)
        with lock:
            inside -= 1
        return answer

    clawq.setattr(artifacts_, "keep", counted)
    assert together(*[lambda ours=ours: keep_all(ours, files("a")) for ours in claims]) == [True] * 6
    assert most == 2
    eventually(lambda: scalar("SELECT count(*) FROM artifacts") == 6)
