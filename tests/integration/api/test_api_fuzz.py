"""Every operation of the OpenAPI document under requests of all kinds: no fault of ours, every answer as documented."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from werkzeug.test import TestResponse

from api import news, openapi
from api.problems import MEDIA_TYPE, ProblemOut
from tests.integration.api import fuzzing
from tests.integration.api.asks import asks
from tests.integration.api.conftest import Caller
from tests.integration.api.oddities import TEXTS, Odd, changes
from tests.integration.api.test_api_server import served
from tests.integration.memory.hands import catch_up
from tests.things import Things, things_of
from tests.worlds import World, kept


@pytest.fixture
def things(memory: pytest.MonkeyPatch, admin: Caller) -> Things:
    """One of each; the index knows the memories."""
    made = things_of(admin.owner)
    catch_up()
    return made


@pytest.fixture
def world(admin: Caller, things: Things, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """With these things, and no time to wait for any."""
    monkeypatch.setattr(news.news(), "_most", 0)
    with kept():
        yield World("things")


@pytest.mark.timeout(fuzzing.TIMEOUT_S)
def test_no_request_that_the_document_leads_to_finds_a_fault(
    app: Flask, admin: Caller, things: Things, tmp_path: Path
) -> None:
    with served() as server:
        report = fuzzing.run(openapi.of(app), f"http://127.0.0.1:{server.port}", admin.key_text, things, tmp_path)
    assert not report, report
    assert admin.get("/tasks"), "the key is still good, so all requests were let in"


def test_no_odd_path_finds_a_fault(app: Flask, admin: Caller, things: Things) -> None:
    for ask in {ask.endpoint.name: ask for ask in asks(things)}.values():
        keyed = replace(ask, headers={"Idempotency-Key": "a"}) if ask.endpoint.creates else ask
        for place in range(len(ask.path)):
            for text in TEXTS:
                odd = Odd(keyed).changed("value", place, text)
                look(openapi.of(app), odd, odd.send(admin))


@pytest.mark.timeout(fuzzing.TIMEOUT_S)
@seed(fuzzing.SEED)
@settings(max_examples=10 * fuzzing.EXAMPLES, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.tuples(st.integers(0, 2**16), st.lists(changes, max_size=3)), min_size=5, max_size=10))
def test_no_odd_request_finds_a_fault(
    app: Flask, admin: Caller, things: Things, world: World, drawn: list[tuple[int, list[tuple[str, Any, Any]]]]
) -> None:
    world.come()
    known = defaultdict(list)
    for ask in asks(things):
        known[ask.endpoint.name] += [ask, replace(ask, headers={"Idempotency-Key": "a"})]
    for which, oddities in drawn:
        some = list(known.values())[which % len(known)]
        odd = Odd(some[which // len(known) % len(some)])
        for oddity in oddities:
            odd = odd.changed(*oddity)
        response = odd.send(admin)
        look(openapi.of(app), odd, response)


def look(document: openapi.Document, odd: Odd, response: TestResponse) -> None:
    """Whether the answer is one that the document tells of."""
    endpoint, status = odd.ask.endpoint, response.status_code
    operations = [operation for item in document["paths"].values() for operation in item.values()]
    (documented,) = (one["responses"] for one in operations if one["operationId"] == endpoint.name)
    # Nobody has a place to wait here, and a stream needs one.
    assert status < 500 or endpoint.media_type == "text/event-stream", (odd, response.text)
    assert str(status) in documented or (odd.strayed and status in (404, 405)), (odd, response.text)
    if status >= 400:
        problem = ProblemOut.model_validate_json(response.data)
        assert (response.mimetype, problem.status) == (MEDIA_TYPE, status), odd
    elif not odd.strayed and status != 204:
        assert response.mimetype == endpoint.media_type
        model = endpoint.answers[status]
        told = model and json.loads(
            model.model_validate_json(response.data, by_alias=False, by_name=True).model_dump_json()
        )
        assert told == (model and response.get_json()), odd
