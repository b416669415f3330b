"""Event streams: what a socket's subscriber is told, for curl."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from api.closing import closing
from api.views import streams
from tests.support import SUCCEEDED, employ, end, post_one, put, running, sql, start


@pytest.fixture
def call(port: int, key: Callable[..., str]) -> Callable[..., httpx.Response]:
    """A GET of the stream that is read to its end."""
    headers = {"Authorization": f"Bearer {key()}"}

    def make(last: str | None = None, **query: Any) -> httpx.Response:
        more = {"Last-Event-ID": last} if last else {}
        return httpx.get(f"http://127.0.0.1:{port}/api/v1/events/stream", params=query, headers=headers | more)

    return make


def frames(lines: Iterator[str]) -> Iterator[dict[str, str]]:
    """The events of a stream, as fields."""
    fields: dict[str, str] = {}
    for line in lines:
        if line and not line.startswith(":"):
            name, _, value = line.partition(": ")
            fields[name] = value
        elif not line and "data" in fields:
            yield fields
            fields = {}


def test_a_task_that_has_ended(call: Callable[..., httpx.Response]) -> None:
    task_id = put("succeeded")
    answer = call(task_id=task_id)
    assert answer.headers["Content-Type"].startswith("text/event-stream")
    heard = list(frames(iter(answer.text.splitlines())))
    assert [(f["id"], f["event"], json.loads(f["data"])["kind"]) for f in heard] == [
        ("1", "event", "accepted"),
        ("2", "event", "queued"),
        ("3", "event", "running"),
        ("4", "event", "succeeded"),
    ]
    again = call(task_id=task_id, after="0", last="3")
    assert [f["id"] for f in frames(iter(again.text.splitlines()))] == ["4"]
    assert call(task_id=task_id, last="4").status_code == 204


def test_what_happens_meanwhile(port: int, key: Callable[..., str]) -> None:
    ours = running()
    options: Any = {"params": {"task_id": ours.id}, "headers": {"Authorization": f"Bearer {key()}"}, "timeout": 20}
    with httpx.stream("GET", f"http://127.0.0.1:{port}/api/v1/events/stream", **options) as answer:
        heard = frames(answer.iter_lines())
        assert [next(heard)["id"] for _ in range(3)] == ["1", "2", "3"]
        end((ours, SUCCEEDED))
        assert [f["id"] for f in heard] == ["4"], "and then it ends"


def test_an_agent_s_stream_goes_on_until_the_server_ends(port: int, key: Callable[..., str]) -> None:
    put("succeeded")
    options: Any = {"params": {"agent_id": "execution_agent"}, "headers": {"Authorization": f"Bearer {key()}"}}
    with httpx.stream("GET", f"http://127.0.0.1:{port}/api/v1/events/stream", **options, timeout=20) as answer:
        heard = frames(answer.iter_lines())
        assert [json.loads(next(heard)["data"])["seq"] for _ in range(3)] == [2, 3, 4]
        closing().begin()
        assert list(heard) == []


def test_a_sign_of_life_comes_whatever_others_do(port: int, key: Callable[..., str], clawq: pytest.MonkeyPatch) -> None:
    clawq.setattr(streams, "_ALIVE_S", 0.3)
    employ()
    over = threading.Event()

    def others() -> None:
        while not over.wait(0.02):
            start(post_one(owner="bob"))

    worker = threading.Thread(target=others)
    worker.start()
    options: Any = {"params": {"agent_id": "execution_agent"}, "headers": {"Authorization": f"Bearer {key()}"}}
    try:
        with httpx.stream("GET", f"http://127.0.0.1:{port}/api/v1/events/stream", **options, timeout=20) as answer:
            lines = answer.iter_lines()
            assert next(line for line in lines if line.startswith(":")) == ": still here"
    finally:
        over.set()
        worker.join()


def test_a_key_that_is_revoked_ends_it(port: int, key: Callable[..., str], clawq: pytest.MonkeyPatch) -> None:
    clawq.setattr(streams, "KEY_S", 0.0)
    clawq.setattr(streams, "_ALIVE_S", 0.05)
    ours = running()
    options: Any = {"params": {"task_id": ours.id}, "headers": {"Authorization": f"Bearer {key()}"}, "timeout": 20}
    with httpx.stream("GET", f"http://127.0.0.1:{port}/api/v1/events/stream", **options) as answer:
        heard = frames(answer.iter_lines())
        assert [next(heard)["id"] for _ in range(3)] == ["1", "2", "3"]
        sql("UPDATE api_keys SET revoked_at = now()")
        assert list(heard) == []


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ({}, 422),
        ({"task_id": "a", "workflow_id": "b"}, 422),
        ({"task_id": "none"}, 404),
        ({"task_id": "OURS", "after": "x"}, 422),
        ({"session_id": "none", "after": "x"}, 422),
        ({"fly": "x"}, 422),
    ],
)
def test_what_is_refused(call: Callable[..., httpx.Response], query: dict[str, str], status: int) -> None:
    task_id = post_one()
    answer = call(**{name: value.replace("OURS", task_id) for name, value in query.items()})
    assert answer.status_code == status
    assert answer.headers["Content-Type"] == "application/problem+json"


def test_another_owner_s_task_is_not_there(call: Callable[..., httpx.Response]) -> None:
    theirs = post_one(owner="bob")
    there, nowhere = (call(task_id=an_id) for an_id in (theirs, "none"))
    assert there.status_code == nowhere.status_code == 404
    assert there.json()["detail"].replace(theirs, "none") == nowhere.json()["detail"]
