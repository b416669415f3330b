"""The embedder `openai` against a service over HTTP: what is asked, and what becomes of each way to misbehave."""

from __future__ import annotations

import json
import logging
import socket
import time
from collections.abc import Iterator
from email.utils import formatdate
from typing import Any

import numpy as np
import pytest
from pydantic import SecretStr

from app.embeddings import wire
from app.embeddings.base import EmbedderAway, EmbedderRefuses, Unembeddable
from app.embeddings.choose import check
from app.embeddings.openai import OpenAI
from app.errors import SettingsError
from tests.integration.embeddings.service import (
    DIMENSIONS,
    Service,
    drip,
    hang_up,
    running,
    says,
    silence,
    vector,
    vectors,
)

KEY = "sk-test-0123456789"
BUSY = says(429, {"error": {"message": "slow down", "code": "rate_limit_exceeded"}}, Retry_After="2")


@pytest.fixture
def service() -> Iterator[Service]:
    with running() as made:
        yield made


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that were waited between tries, which nobody waits."""
    waited: list[float] = []
    monkeypatch.setattr(wire, "sleep", waited.append)
    return waited


@pytest.fixture
def embedder(service: Service) -> Iterator[OpenAI]:
    made = OpenAI(SecretStr(service.url), SecretStr(KEY), "small", DIMENSIONS, send_dimensions=True)
    yield made
    made.close()


def of(*texts: str) -> Any:
    rows = np.array([vector(text) for text in texts])
    return rows / np.linalg.norm(rows, axis=1)[:, None]


def test_the_request_says_what_the_settings_say(service: Service, embedder: OpenAI) -> None:
    rows = embedder.embed(["one", "three"])
    assert np.allclose(rows, of("one", "three"), atol=1e-6), "by index, of unit length"
    assert rows.dtype == np.float32
    (request,) = service.requests
    assert request.path == "/v1/embeddings"
    assert request.headers["authorization"] == f"Bearer {KEY}"
    assert request.body == {
        "model": "small",
        "input": ["one", "three"],
        "dimensions": DIMENSIONS,
        "encoding_format": "float",
    }
    assert embedder.name == f"openai:small:{DIMENSIONS}"


def test_without_a_key_none_is_sent_and_a_query_stays_where_it_was(service: Service) -> None:
    made = OpenAI(SecretStr(f"{service.url}/?api-version=1"), None, "small", DIMENSIONS, send_dimensions=True)
    made.embed(["one"])
    made.close()
    assert "authorization" not in service.requests[0].headers
    assert service.requests[0].path == "/v1/embeddings?api-version=1"


def test_a_service_that_knows_no_dimensions_is_not_asked_for_them(service: Service, embedder: OpenAI) -> None:
    service.knows_dimensions = False
    with pytest.raises(EmbedderRefuses, match="CLAWQ_EMBEDDING_SEND_DIMENSIONS"):
        embedder.embed(["one"])
    made = OpenAI(SecretStr(service.url), None, "small", DIMENSIONS, send_dimensions=False)
    assert np.allclose(made.embed(["one"]), of("one"))
    made.close()
    assert "dimensions" not in service.requests[-1].body


def test_many_texts_are_asked_for_in_batches(service: Service, embedder: OpenAI) -> None:
    texts = [f"text {'x' * at}" for at in range(300)]
    assert np.allclose(embedder.embed(texts), of(*texts), atol=1e-6)
    assert [len(request.body["input"]) for request in service.requests] == [128, 128, 44]


def test_nothing_is_asked_about_empty_texts(service: Service, embedder: OpenAI) -> None:
    rows = embedder.embed(["", "one", " \n"])
    assert np.allclose(rows, [[1, 0, 0, 0], of("one")[0], [1, 0, 0, 0]])
    assert [request.body["input"] for request in service.requests] == [["one"]]
    assert embedder.embed([]).shape == (0, DIMENSIONS)


@pytest.mark.parametrize("status", [429, 500, 502, 503, 529])
def test_a_service_that_is_busy_or_broken_is_asked_again(
    service: Service, embedder: OpenAI, pauses: list[float], status: int
) -> None:
    service.misbehave = [says(status), says(status)]
    assert np.allclose(embedder.embed(["one"]), of("one"))
    assert pauses == [0.25, 0.5]


def test_a_pause_is_as_long_as_the_service_says(service: Service, embedder: OpenAI, pauses: list[float]) -> None:
    date = formatdate(time.time() + 3, usegmt=True)
    service.misbehave = [BUSY, says(503, Retry_After=date), says(503, Retry_After="nan")]
    assert np.allclose(embedder.embed(["one"]), of("one"))
    assert pauses[0] == 2
    assert 1 < pauses[1] <= 3
    assert pauses[2] == 1


@pytest.mark.parametrize("retry_after", ["60", "8", "1e400"])
def test_nobody_waits_longer_than_one_may(
    service: Service, embedder: OpenAI, pauses: list[float], retry_after: str
) -> None:
    service.misbehave = [says(429, Retry_After=retry_after)]
    with pytest.raises(EmbedderAway, match="429"):
        embedder.embed(["one"])
    assert (len(service.requests), pauses) == (1, [])


def test_a_service_that_stays_broken_is_given_up(service: Service, embedder: OpenAI, pauses: list[float]) -> None:
    service.misbehave = [says(500, b"<html>")] * 9
    with pytest.raises(EmbedderAway, match="500"):
        embedder.embed(["one"])
    assert len(service.requests) == 4


def test_a_connection_that_breaks_off_is_tried_again(service: Service, embedder: OpenAI, pauses: list[float]) -> None:
    embedder.embed(["one"])
    service.misbehave = [hang_up]
    assert np.allclose(embedder.embed(["two"]), of("two"))
    service.misbehave = [hang_up] * 9
    with pytest.raises(EmbedderAway):
        embedder.embed(["three"])


def test_silence_is_not_waited_out(service: Service, embedder: OpenAI, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "_READ_S", 0.2)
    service.misbehave = [silence]
    with pytest.raises(EmbedderAway, match="in time"):
        embedder.embed(["one"])
    assert len(service.requests) == 1


def test_an_answer_that_trickles_in_is_not_waited_out(
    service: Service, embedder: OpenAI, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wire, "TOTAL_S", 0.5)
    service.misbehave = [drip]
    with pytest.raises(EmbedderAway, match="in time"):
        embedder.embed(["one"])


def test_an_answer_without_end_is_not_kept(service: Service, embedder: OpenAI, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "_MOST_BYTES", 10_000)
    service.misbehave = [says(200, b" " * 20_000)]
    with pytest.raises(EmbedderAway, match="10000 bytes"):
        embedder.embed(["one"])


def test_a_service_that_is_not_there_is_away_at_once() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        made = OpenAI(SecretStr(f"http://127.0.0.1:{taken.getsockname()[1]}"), None, "m", 4, send_dimensions=True)
        with pytest.raises(EmbedderAway, match="cannot be reached"):
            made.embed(["one"])
        made.close()


@pytest.mark.parametrize(
    "answer",
    [
        says(200, b"not json"),
        says(200, b"[" * 100_000),
        says(200, []),
        says(200, {"data": {}}),
        says(200, {"data": [1]}),
        says(200, {"data": [{}]}),
        vectors(),
        vectors([1, 2, 3, 4], [1, 2, 3, 4]),
        vectors("AACAPw=="),
        vectors([1, 2, "3", 4]),
        vectors([1, 2, None, 4]),
        vectors([1, 2, True, 4]),
        vectors([1, 2, [3], 4]),
        vectors([1, 2, float("nan"), 4]),
        vectors([1, 2, float("inf"), 4]),
        vectors([1, 2, 1e300, 4]),
        vectors([1, 2, 10**400, 4]),
        says(200, {"data": [{"index": 1, "embedding": [1, 2, 3, 4]}]}),
        says(200, {"data": [{"index": -1, "embedding": [1, 2, 3, 4]}]}),
        says(200, {"data": [{"index": "0", "embedding": [1, 2, 3, 4]}]}),
    ],
)
def test_nonsense_is_no_vector(service: Service, embedder: OpenAI, answer: Any) -> None:
    service.misbehave = [answer]
    with pytest.raises(EmbedderAway) as caught:
        embedder.embed(["one"])
    assert not isinstance(caught.value, EmbedderRefuses)


@pytest.mark.parametrize("count", [1, 3])
def test_as_many_vectors_as_texts_or_none(service: Service, embedder: OpenAI, count: int) -> None:
    service.misbehave = [vectors(*[[1, 2, 3, 4]] * count)]
    with pytest.raises(EmbedderAway, match=f"{count} vectors to 2 texts"):
        embedder.embed(["one", "two"])


def test_vectors_that_share_an_index_are_nonsense(service: Service, embedder: OpenAI) -> None:
    service.misbehave = [says(200, {"data": [{"index": 0, "embedding": [1, 2, 3, 4]}] * 2})]
    with pytest.raises(EmbedderAway, match="which vector"):
        embedder.embed(["one", "two"])


def test_an_answer_without_indexes_is_in_the_order_of_the_texts(service: Service, embedder: OpenAI) -> None:
    service.misbehave = [says(200, {"data": [{"embedding": [0, 0, 0, 2]}, {"embedding": [0, 0, 0, 0]}]})]
    assert np.array_equal(embedder.embed(["one", "two"]), [[0, 0, 0, 1], [1, 0, 0, 0]])


@pytest.mark.parametrize(
    ("answer", "names"),
    [
        (says(401, {"error": {"message": f"Incorrect API key: {KEY}", "code": "invalid_api_key"}}), "API_KEY"),
        (says(403), "API_KEY"),
        (says(404, {"error": {"message": "x", "code": "model_not_found"}}), "EMBEDDING_MODEL"),
        (says(302, b"", Location="http://127.0.0.1:9/"), "BASE_URL"),
        (vectors([1, 2, 3]), "EMBEDDING_DIMENSIONS"),
    ],
)
def test_what_the_settings_cause_is_told_with_their_names(
    service: Service, embedder: OpenAI, answer: Any, names: str
) -> None:
    service.misbehave = [answer, answer]
    with pytest.raises(EmbedderRefuses, match=names):
        embedder.embed(["one"])
    with pytest.raises(SettingsError, match=names):
        check(embedder)
    assert len(service.requests) == 2, "asking again would not help"


def test_of_a_text_that_is_too_long_the_beginning_counts(service: Service, embedder: OpenAI) -> None:
    text = "".join(chr(97 + at % 26) for at in range(35_000))
    assert np.allclose(embedder.embed([text]), of(text[:8750]))
    service.most_characters = 800
    with pytest.raises(Unembeddable):
        embedder.embed([text])


def test_a_batch_with_a_text_that_is_refused_is_refused(service: Service, embedder: OpenAI) -> None:
    service.most_characters = 800
    with pytest.raises(Unembeddable, match="one of 2 texts"):
        embedder.embed(["one", "x" * 900])
    with pytest.raises(Unembeddable):
        embedder.embed(["x" * 900])
    embedder.embed(["one"])


def test_neither_key_nor_url_nor_text_is_in_errors_or_logs(
    service: Service, pauses: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    logging.getLogger("httpx").setLevel(logging.WARNING)  # as app/logs.py sets it
    made = OpenAI(SecretStr(f"{service.url}/hush"), SecretStr(KEY), "small", DIMENSIONS, send_dimensions=True)
    quoting = {"error": {"message": f"{KEY} sent a secret to {service.url}/hush", "code": f"bad key {KEY}"}}
    told = []
    for answer in [says(status, quoting) for status in (400, 401, 429, 500)] + [hang_up, says(200, quoting)]:
        service.misbehave = [answer] * 9
        with pytest.raises((EmbedderAway, Unembeddable)) as caught:
            made.embed(["a secret"])
        told.append(f"{caught.value.detail} {caught.value!r}")
    made.close()
    shown = json.dumps(told) + caplog.text + repr(vars(made)["_asked"])
    assert not [word for word in (KEY, "hush", "a secret") if word in shown]


def test_a_service_that_is_away_is_not_asked_by_each_search_again(
    service: Service, embedder: OpenAI, pauses: list[float]
) -> None:
    service.misbehave = [says(500, b"<html>")] * 9
    with pytest.raises(EmbedderAway, match="500"):
        embedder.embed(["one"])
    asked = len(service.requests)
    with pytest.raises(EmbedderAway, match="a moment ago"):
        embedder.embed(["two"])
    assert len(service.requests) == asked
