"""Following events over connections that end anywhere: every event once, in order."""

from __future__ import annotations

import json
import random
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from threading import Thread

import pytest

from app.cli import stream
from app.cli.client import ApiError, Away, Busy, Client

REAL_PAUSES_S = stream._PAUSES_S

#: Letters that some take for the ends of lines, and that JSON may hold as they are.
ODD = "line\u2028separator\x85next\u2029end é\r\n"
EVENTS = [{"type": "event", "seq": n, "kind": "log", "data": {"text": f"{n} {ODD}"}} for n in range(1, 301)]


def frame(event: dict[str, object], end: str = "\n") -> bytes:
    """An event as the API sends it."""
    data = json.dumps(event, ensure_ascii=False)
    return f"id: {event['seq']}{end}event: event{end}data: {data}{end}{end}".encode()


#: Answers the number of the last event that is known, and of the request.
Answers = Callable[[BaseHTTPRequestHandler, int, int], None]


@contextmanager
def streaming(answer: Answers) -> Iterator[list[str]]:
    """An API of streams alone; yields the paths that are asked for."""
    asked: list[str] = []
    numbers = count()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            asked.append(self.path)
            self.close_connection = True
            answer(self, int(self.headers.get("Last-Event-ID", 0)), next(numbers))

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        try:
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("CLAWQ_API_URL", f"http://127.0.0.1:{server.server_address[1]}")
                yield asked
        finally:
            server.shutdown()


def begin(handler: BaseHTTPRequestHandler, status: int = 200, content_type: str = "text/event-stream") -> None:
    """Answer with a body that ends where it says so."""
    handler.send_response(status)
    handler.send_header("Content-Type", content_type)
    handler.send_header("Transfer-Encoding", "chunked")
    handler.end_headers()


def send(handler: BaseHTTPRequestHandler, data: bytes) -> None:
    """A part of that body."""
    handler.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))


def refuse(handler: BaseHTTPRequestHandler, status: int, detail: str = "") -> None:
    """Answer without a stream."""
    body = json.dumps({"title": "No", "detail": detail}).encode() if detail else b""
    handler.send_response(status)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


@pytest.fixture
def client(environment: pytest.MonkeyPatch) -> Iterator[Callable[[], Client]]:
    """Makes a client of the API that streams."""
    environment.setenv("CLAWQ_API_KEY", "clawq_x_y")
    environment.setenv("NO_PROXY", "*")
    environment.setattr(stream, "_PAUSES_S", (0.001, 0.01))
    made: list[Client] = []
    yield lambda: made.append(Client()) or made[-1]
    for one in made:
        one._http.close()


@pytest.mark.parametrize("seed", range(5))
def test_every_event_comes_once_and_in_order_however_connections_end(client: Callable[[], Client], seed: int) -> None:
    chance = random.Random(seed)

    def answer(handler: BaseHTTPRequestHandler, after: int, _: int) -> None:
        if chance.random() < 0.2:
            return refuse(handler, chance.choice((429, 500, 503)))
        if chance.random() < 0.1:
            return handler.connection.shutdown(socket.SHUT_RDWR)
        if after == len(EVENTS):
            return refuse(handler, 204)
        end = chance.choice(("\n", "\r\n"))
        body = b"".join([b": hello\n\n", *(frame(event, end) for event in EVENTS[after : after + 40])])
        # A whole body is at times the last one, and may end as one that was cut does.
        body = body[: chance.randint(0, len(body) * 2)]
        begin(handler)
        while body:
            size = chance.randint(1, 2000)
            send(handler, body[:size])
            body = body[size:]
        if chance.random() < 0.5:
            handler.wfile.write(b"0\r\n\r\n")

    with streaming(answer) as asked:
        assert list(stream.follow(client(), task_id="t")) == EVENTS
    assert len(asked) > len(EVENTS) / 40
    assert set(asked) == {"/api/v1/events/stream?task_id=t"}


class Clock:
    """Time that passes while somebody sleeps, and only then."""

    def __init__(self) -> None:
        self.now = 0.0
        self.longest = 0.0

    def monotonic(self) -> float:
        """What the clock shows."""
        return self.now

    def sleep(self, seconds: float) -> None:
        """Let so much time pass."""
        self.now += seconds
        assert self.now < 1000, "nothing is given up"
        self.longest = max(self.longest, seconds)


@pytest.fixture
def clock(client: Callable[[], Client], monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The one by which streams wait, with the pauses that they really make."""
    made = Clock()
    monkeypatch.setattr(stream, "time", made)
    monkeypatch.setattr(stream, "_PAUSES_S", REAL_PAUSES_S)
    return made


def hang_up(handler: BaseHTTPRequestHandler) -> None:
    """Answer nothing."""
    handler.connection.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize(
    "nobody", [hang_up, lambda handler: refuse(handler, 502), lambda handler: refuse(handler, 504)]
)
def test_what_does_not_answer_is_given_up(
    client: Callable[[], Client], clock: Clock, nobody: Callable[[BaseHTTPRequestHandler], None]
) -> None:
    def answer(handler: BaseHTTPRequestHandler, after: int, _: int) -> None:
        if after:
            return nobody(handler)
        begin(handler)
        send(handler, frame(EVENTS[0]))

    with streaming(answer):
        following = stream.follow(client(), task_id="t")
        assert next(following) == EVENTS[0]
        with pytest.raises(Away) as caught:
            list(following)
    assert not isinstance(caught.value, Busy)
    assert 120 < clock.now < 130


@pytest.mark.parametrize("status", [429, 500, 503])
def test_what_answers_that_it_cannot_now_is_never_given_up(
    client: Callable[[], Client], clock: Clock, status: int
) -> None:
    def answer(handler: BaseHTTPRequestHandler, after: int, _: int) -> None:
        if after:
            return refuse(handler, 204)
        if clock.now < 200:
            return refuse(handler, status, "All places are taken.")
        begin(handler)
        send(handler, frame(EVENTS[0]))

    with streaming(answer):
        assert list(stream.follow(client(), task_id="t")) == [EVENTS[0]]
    assert clock.longest == 5


def test_silence_counts_from_the_last_answer(client: Callable[[], Client], clock: Clock) -> None:
    def answer(handler: BaseHTTPRequestHandler, *_: int) -> None:
        refuse(handler, 503, "Not now.") if clock.now < 200 else hang_up(handler)

    with streaming(answer), pytest.raises(Away, match=r"^The API at .* does not answer"):
        list(stream.follow(client(), task_id="t"))
    assert 315 < clock.now < 330


def test_who_is_refused_does_not_try_again(client: Callable[[], Client]) -> None:
    with streaming(lambda handler, *_: refuse(handler, 404, "No task t.")) as asked:
        with pytest.raises(ApiError, match=r"^No task t\.$"):
            list(stream.follow(client(), task_id="t"))
        assert len(asked) == 1


@pytest.mark.parametrize(("content_type", "body"), [("text/html", b"<p>"), ("text/event-stream", b"data: {\n\n")])
def test_what_is_no_stream_of_ours_is_refused(client: Callable[[], Client], content_type: str, body: bytes) -> None:
    def answer(handler: BaseHTTPRequestHandler, *_: int) -> None:
        begin(handler, content_type=content_type)
        send(handler, body)

    with streaming(answer) as asked:
        with pytest.raises(ApiError, match=r"but not as clawq's API does|none of clawq's"):
            list(stream.follow(client(), task_id="t"))
        assert len(asked) == 1


def test_streams_without_events_are_not_asked_for_without_a_pause(
    client: Callable[[], Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(stream, "_PAUSES_S", (0.1, 0.5))
    monkeypatch.setattr(stream.time, "sleep", pauses.append)

    def answer(handler: BaseHTTPRequestHandler, after: int, number: int) -> None:
        if number == 7:
            return refuse(handler, 204)
        begin(handler)
        send(handler, frame(EVENTS[0]) if number == 4 else b": nothing\n\n")

    with streaming(answer):
        assert list(stream.follow(client(), task_id="t")) == [EVENTS[0]]
    assert pauses == [0.0, 0.1, 0.2, 0.4, 0.0, 0.1, 0.2]
