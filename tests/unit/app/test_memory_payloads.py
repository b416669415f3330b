"""What may be asked of memory: over HTTP, and as the payload of a task."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from app.errors import Invalid
from app.memory import payloads
from app.memory.document import MemoryDocument
from app.memory.payloads import MAX_CONTENT, MAX_METADATA_BYTES, ForgetPayload, SearchPayload, StorePayload
from app.memory.store import NewMemory
from app.memory.wanted import Wanted
from app.tasks.types import TASK_TYPES, check_payload

TEA = {"memory_type": "semantic", "content": "Tea."}
LONG_AGO = "2020-01-01T00:00:00Z"
MEMORY_TYPES = [name for name in TASK_TYPES if name.startswith("memory.")]


def locs(task_type: str, payload: Any) -> list[tuple[str | int, ...]]:
    with pytest.raises(Invalid) as caught:
        check_payload(task_type, payload)
    return [problem.loc for problem in caught.value.problems]


def test_a_text_needs_only_its_type() -> None:
    asked = check_payload("memory.store", TEA)
    assert isinstance(asked, StorePayload)
    assert asked.to_new_memory() == NewMemory(memory_type="semantic", content="Tea.", supersedes=[])
    assert asked.on_near_duplicate == "report"


def test_everything_that_can_be_said_of_a_text_arrives() -> None:
    scope = {"agent_id": "a", "session_id": "s", "user_id": "u"}
    given = TEA | scope | {
        "metadata": {"n": [1]}, "importance": 1, "expires_at": "2030-01-01T01:00:00+01:00", "supersedes": ["m"],
        "on_near_duplicate": "merge",
    }  # fmt: skip
    asked = check_payload("memory.store", given)
    assert isinstance(asked, StorePayload)
    assert asked.to_new_memory() == NewMemory(
        memory_type="semantic", content="Tea.", metadata={"n": [1]}, importance=1.0,
        expires_at=datetime(2030, 1, 1, tzinfo=UTC), supersedes=["m"], **scope,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("memory_type", "vivid"), ("memory_type", None), ("content", ""), ("content", "x" * (MAX_CONTENT + 1)),
        ("content", 3), ("content", None), ("metadata", []), ("metadata", {"x": "x" * MAX_METADATA_BYTES}),
        ("importance", -0.1), ("importance", 1.1), ("importance", float("nan")), ("expires_at", 1_900_000_000),
        ("expires_at", "2030-01-01"), ("expires_at", "2030-01-01T00:00:00"), ("agent_id", ""),
        ("session_id", "x" * 256), ("user_id", 7), ("supersedes", "m"), ("supersedes", [""]),
        ("supersedes", ["m"] * 101), ("on_near_duplicate", "refuse"), ("id", "x"), ("owner", "x"),
        ("status", "active"), ("version", 1),
    ],
    ids=lambda value: str(value)[:20],
)  # fmt: skip
def test_a_text_is_refused_for(field: str, value: Any) -> None:
    assert {loc[1] for loc in locs("memory.store", TEA | {field: value})} == {field}


def test_metadata_are_measured_as_compact_json() -> None:
    check_payload(
        "memory.store", TEA | {"content": "é" * MAX_CONTENT, "metadata": {"é": "x" * (MAX_METADATA_BYTES - 9)}}
    )
    assert locs("memory.store", TEA | {"metadata": {"é": "x" * (MAX_METADATA_BYTES - 8)}}) == [("payload", "metadata")]


def test_a_search_is_of_what_is_active_and_has_not_expired() -> None:
    asked = check_payload("memory.search", {"query": "tea"})
    assert isinstance(asked, SearchPayload)
    assert asked.to_wanted("ada") == Wanted(owner="ada")
    assert (asked.limit, asked.mode, asked.explain) == (10, "hybrid", False)
    full = {
        "query": "tea", "memory_type": "working", "agent_id": "a", "session_id": "s", "user_id": "u",
        "filter": {"n": 1}, "created_after": LONG_AGO, "created_before": LONG_AGO,
    }  # fmt: skip
    asked = check_payload("memory.search", full)
    assert isinstance(asked, SearchPayload)
    moment = datetime(2020, 1, 1, tzinfo=UTC)
    assert asked.to_wanted("ada") == Wanted(
        owner="ada", memory_type="working", agent_id="a", session_id="s", user_id="u", filter={"n": 1},
        created_after=moment, created_before=moment,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("query", ""), ("query", "x" * 10_001), ("limit", 0), ("limit", 101), ("mode", "fuzzy"), ("filter", "n = 1"),
        ("created_after", "today"), ("explain", "perhaps"), ("status", "merged"), ("owner", "bob"),
    ],
    ids=lambda value: str(value)[:20],
)  # fmt: skip
def test_a_search_is_refused_for(field: str, value: Any) -> None:
    assert {loc[1] for loc in locs("memory.search", {"query": "x"} | {field: value})} == {field}


@pytest.mark.parametrize("task_type", ["memory.search", "memory.forget", "memory.consolidate"])
def test_a_filter_that_says_nothing_is_refused_when_the_task_is_posted(
    monkeypatch: pytest.MonkeyPatch, task_type: str
) -> None:
    def refuse(_: Any) -> Any:
        raise Invalid(problems=[payloads.Problem(("filter", "n", "$near"), "no such operator")])

    monkeypatch.setattr(payloads, "compile_filter", refuse)
    given = {"filter": {"n": {"$near": 1}}} | ({"query": "x"} if task_type == "memory.search" else {})
    assert locs(task_type, given) == [("payload", "filter", "n", "$near")]


@pytest.mark.parametrize(
    "given",
    [
        {"ids": ["m"]}, {"user_id": "u"}, {"agent_id": "a"}, {"session_id": "s"}, {"memory_type": "working"},
        {"filter": {"a": 1}}, {"created_before": LONG_AGO}, {"user_id": "u", "memory_type": "working"}, {"all": True},
    ],
    ids=str,
)  # fmt: skip
def test_what_is_to_be_forgotten_is_said_in_one_way(given: dict[str, Any]) -> None:
    asked = check_payload("memory.forget", given)
    assert isinstance(asked, ForgetPayload)
    wanted = asked.to_wanted("ada")
    # What is superseded, merged or expired is kept no longer than the rest.
    assert (wanted.owner, wanted.status, wanted.expired) == ("ada", None, True)
    narrowed = (wanted.agent_id, wanted.session_id, wanted.user_id, wanted.memory_type, wanted.filter)
    narrow = any(value is not None for value in (*narrowed, wanted.created_before))
    assert narrow == ("ids" not in given and "all" not in given)


@pytest.mark.parametrize(
    "given",
    [
        {}, {"ids": []}, {"filter": {}}, {"all": False}, {"ids": ["m"], "user_id": "u"}, {"ids": ["m"], "all": True},
        {"all": True, "user_id": "u"}, {"ids": ["m"] * 1001}, {"created_after": LONG_AGO}, {"query": "x"},
    ],
    ids=lambda value: str(value)[:30],
)  # fmt: skip
def test_nothing_is_forgotten_by_mistake(given: dict[str, Any]) -> None:
    assert locs("memory.forget", given)


@pytest.mark.parametrize("lost", ["user_id", "filter", "ids", "session_id"])
def test_a_scope_that_was_lost_on_the_way_forgets_nobody(lost: str) -> None:
    assert locs("memory.forget", {"memory_type": "working", lost: None}) == [("payload",)]


@pytest.mark.parametrize(
    "given", [{"threshold": 0.79}, {"threshold": 1.01}, {"limit": 0}, {"limit": 1001}, {"dry_run": 7}, {"ids": ["m"]}]
)
def test_a_consolidation_is_refused_for(given: dict[str, Any]) -> None:
    assert {loc[1] for loc in locs("memory.consolidate", given)} == set(given)


@pytest.mark.parametrize("name", MEMORY_TYPES)
def test_what_memory_does_shares_an_envelope_and_takes_no_sandbox(name: str) -> None:
    kind = TASK_TYPES[name]
    assert (kind.queue, kind.inline, kind.share) == ("memory", True, 16)


def test_a_document_says_the_same_when_it_is_read_again() -> None:
    version = TEA | {"version": 1, "updated_at": LONG_AGO, "replaced_at": "2020-01-01T00:00:00.000001Z"}
    given = TEA | {
        "id": "m:1", "version": 3, "status": "merged", "replaced_by": "k", "metadata": {"a": None}, "importance": None,
        "created_at": LONG_AGO, "updated_at": LONG_AGO, "uses": 2, "used_at": LONG_AGO, "history": [version],
    }  # fmt: skip
    document = MemoryDocument.model_validate_json(json.dumps(given), strict=True)
    written = document.model_dump_json()
    assert MemoryDocument.model_validate_json(written, strict=True) == document
    assert json.loads(written)["history"][0]["replaced_at"] == "2020-01-01T00:00:00.000001Z"


@pytest.mark.parametrize("name", ["a/b", "a b", "é", "a?b", "", "x\n", "x" * 256, "export", "index", ".", ".."])
def test_an_id_that_no_path_could_name_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="id"):
        MemoryDocument.model_validate(TEA | {"id": name})


@pytest.mark.parametrize("numbers", [[3], [2, 2], [1, 4]])
def test_a_history_that_cannot_have_been_is_refused(numbers: list[int]) -> None:
    history = [TEA | {"version": n, "updated_at": LONG_AGO, "replaced_at": LONG_AGO} for n in numbers]
    with pytest.raises(ValueError, match="each version comes once"):
        MemoryDocument.model_validate(TEA | {"version": 3, "history": history})
