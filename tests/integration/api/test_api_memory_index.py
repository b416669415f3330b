"""The index of memories over HTTP: how far it follows, a new one, and what is said when it is away."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import text

from app.db import transaction
from app.embeddings.choose import embedder
from app.errors import SettingsError
from app.memory import generations, index
from app.settings import settings
from tests.integration.api.conftest import Caller
from tests.integration.api.test_api_memories import TEA, store
from tests.integration.memory.hands import catch_up

NOTHING = {"pending": 0, "failed": 0, "lag_s": 0.0, "failures": [], "active": None, "building": None}


@pytest.fixture
def away(clawq: pytest.MonkeyPatch) -> Iterator[None]:
    """A Chroma that nobody serves."""
    clawq.setenv("VECTOR_DB_URL", "http://127.0.0.1:1")
    settings.cache_clear()
    index.close()
    yield
    index.close()


@pytest.fixture
def active(away: None) -> int:
    """The id of an active index that nobody fills."""
    with transaction() as db:
        started = generations.start(db, embedder(), status="active")
    assert started is not None
    return started


def test_without_an_index_it_is_said_so(ada: Caller) -> None:
    assert ada.get("/memories/index") == NOTHING | {"configured": embedder().name}


def test_what_the_index_does_not_know_yet_is_counted(ada: Caller, active: int) -> None:
    store(ada)
    told = ada.get("/memories/index")
    assert (told["pending"], told["failed"], told["building"]) == (1, 0, None)
    assert told["lag_s"] >= 0
    shown = told["active"]
    assert (shown["id"], shown["embedder"], shown["dimensions"]) == (active, embedder().name, embedder().dimensions)
    assert (shown["pending"], shown["activated_at"] is None) == (1, False)


def test_failures_are_told_to_their_owner_alone(ada: Caller, bob: Caller, active: int) -> None:
    one = store(ada)["id"]
    with transaction() as db:
        db.execute(text("UPDATE memory_outbox SET failures = 5, error = 'too long', failed_at = now()"))
    told = ada.get("/memories/index")
    assert (told["failed"], told["pending"]) == (1, 0)
    (failure,) = told["failures"]
    assert (failure["memory_id"], failure["error"], failure["failures"]) == (one, "too long", 5)
    told = bob.get("/memories/index")
    assert (told["failed"], told["failures"]) == (1, [])


def test_a_new_index_is_built_beside_the_old_one_once_at_a_time(ada: Caller, admin: Caller, active: int) -> None:
    store(ada)
    told = admin.post("/memories/index/rebuild")
    assert told["active"]["id"] == active
    assert told["building"]["id"] != active
    assert told["building"]["pending"] == 1
    assert admin.post("/memories/index/rebuild", status=409)["code"] == "conflict"


@pytest.mark.parametrize("act", ["rebuild", "verify"])
def test_what_concerns_all_owners_is_for_administrators(ada: Caller, act: str) -> None:
    assert ada.post(f"/memories/index/{act}", {}, 403)["code"] == "forbidden"


def test_there_is_nothing_to_verify_without_an_index(admin: Caller) -> None:
    assert "no index" in admin.post("/memories/index/verify", {}, 409)["detail"]


def test_an_index_that_is_away_cannot_be_verified_now(admin: Caller, active: int) -> None:
    response = admin.call("POST", "/memories/index/verify", {})
    assert (response.status_code, response.get_json()["code"]) == (503, "unavailable")
    assert int(response.headers["Retry-After"]) > 0


@pytest.mark.parametrize("repair", [False, True])
def test_what_differs_is_told(admin: Caller, active: int, monkeypatch: pytest.MonkeyPatch, repair: bool) -> None:
    one = store(admin)["id"]
    with transaction() as db:
        db.execute(text("DELETE FROM memory_outbox"))
    removed: list[Any] = []
    monkeypatch.setattr(index, "keys", lambda _: iter([["ghost:1"], ["ghost:2"]]))
    monkeypatch.setattr(index, "holds", lambda _, keys: {key for key in keys if key.startswith("ghost")})
    monkeypatch.setattr(index, "remove", lambda _, keys: removed.extend(keys))
    told = admin.post("/memories/index/verify", {"repair": repair}, 200)
    assert told == {
        "differences": 3, "expected": 1, "pending": 0, "failed": 0, "missing": 1, "ghosts": 2, "repaired": repair,
        "examples": [f"{one}:1", "ghost:1", "ghost:2"],
    }  # fmt: skip
    assert removed == (["ghost:1", "ghost:2"] if repair else [])


def test_an_index_that_is_lost_is_no_fault_of_ours(admin: Caller, active: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def lost(_: str) -> Any:
        raise index.IndexLost

    monkeypatch.setattr(index, "keys", lost)
    assert "made anew" in admin.post("/memories/index/verify", {}, 409)["detail"]


def test_an_embedder_that_cannot_be_used_hides_nothing_else(
    ada: Caller, active: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unusable() -> Any:
        raise SettingsError("No model.")

    monkeypatch.setattr("api.views.memory_index.embedder", unusable)
    told = ada.get("/memories/index")
    assert (told["configured"], told["active"]["id"]) == (None, active)


@pytest.mark.usefixtures("memory")
def test_what_is_written_imported_and_forgotten_over_http_is_what_the_index_holds(ada: Caller, admin: Caller) -> None:
    catch_up()
    kept = store(ada, user_id="u")["id"]
    gone = store(ada, content="The engine needs coal.")["id"]
    ada.post("/memories/import", {"memories": [TEA | {"id": "x", "content": "Rain in Spain.", "version": 4}]}, 201)
    catch_up()
    assert ada.call("DELETE", f"/memories/{gone}").status_code == 204
    ada.call("PATCH", f"/memories/{kept}", {"content": "Grace drinks black tea."})
    catch_up()
    told = admin.post("/memories/index/verify", {}, 200)
    assert (told["differences"], told["expected"], told["pending"]) == (0, 2, 0)
    assert ada.get("/memories/x")["indexed"]
    found = ada.post("/memories/search", {"query": "rain in spain", "mode": "vector"}, 200)
    assert (found["items"][0]["id"], found["degraded"]) == ("x", False)
    # What was there before the import has a key of its own, whatever becomes of it.
    ada.post("/memories/forget", {"ids": ["x"]}, 200)
    ada.post("/memories/import", {"memories": [TEA | {"id": "x", "content": "Rain in Spain.", "version": 4}]}, 201)
    catch_up()
    assert admin.post("/memories/index/verify", {}, 200)["differences"] == 0
    assert ada.get("/memories/x")["indexed"]


@pytest.mark.usefixtures("memory")
def test_a_new_index_takes_the_old_one_s_place_once_it_holds_all(ada: Caller, admin: Caller) -> None:
    catch_up()
    store(ada)
    new = admin.post("/memories/index/rebuild")["building"]["id"]
    catch_up()
    told = ada.get("/memories/index")
    assert (told["active"]["id"], told["building"], told["pending"]) == (new, None, 0)
    assert admin.post("/memories/index/verify", {}, 200)["differences"] == 0
