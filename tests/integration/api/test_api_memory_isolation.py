"""Whatever owners do, none of them sees, changes or learns of another's memories."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.integration.api.conftest import Caller
from tests.integration.memory.hands import catch_up
from tests.support import sql

OWNERS = ("ada", "bob", "root")
#: Nearly the same, exactly the same, and different, so that merging and repeats have something to go wrong with.
TEXT = "the quick brown fox jumps over the lazy dog and runs away into the deep dark forest at night"
TEXTS = (TEXT, TEXT + ".", TEXT + "!", "green tea", "my secret is the number seven")

_owner = st.sampled_from(OWNERS)
_text = st.sampled_from(TEXTS)
_scope = st.sampled_from(({}, {"user_id": "u"}, {"memory_type": "episodic"}))
_which = st.integers(0, 20)
_act = st.one_of(
    st.tuples(st.just("store"), _owner, _text, _scope, st.sampled_from(("report", "merge", "ignore"))),
    st.tuples(st.just("batch"), _owner, st.lists(_text, min_size=1, max_size=4), _scope),
    st.tuples(st.just("supersede"), _owner, _text, _which),
    st.tuples(st.just("show"), _owner, _which),
    st.tuples(st.just("patch"), _owner, _text, _which),
    st.tuples(st.just("delete"), _owner, _which),
    st.tuples(st.just("search"), _owner, _text, _scope, st.sampled_from(("hybrid", "vector", "keyword"))),
    st.tuples(st.just("list"), _owner),
    st.tuples(st.just("export"), _owner),
    st.tuples(st.just("consolidate"), _owner, _scope),
    st.tuples(st.just("forget"), _owner, _scope),
    st.tuples(st.just("forget ids"), _owner, st.lists(_which, min_size=1, max_size=3)),
    st.tuples(st.just("import"), _owner, _which, _text),
    st.tuples(st.just("index"), _owner),
)


class World:
    """Three owners, one of them an administrator, and what belongs to whom."""

    def __init__(self, callers: dict[str, Caller]) -> None:
        self.callers = callers

    def owner_of(self) -> dict[str, str]:
        """Id → owner, of all memories there are."""
        return dict(tuple(row) for row in sql("SELECT id, owner FROM memory ORDER BY id"))

    def of_others(self, owner: str) -> list[Any]:
        """Everything that is kept of other owners, but for what the indexer writes."""
        memories = sql(
            """
            SELECT m.id, m.content, m.metadata, m.version, m.status, m.replaced_by, m.importance, m.updated_at, u.uses
            FROM memory m LEFT JOIN memory_uses u ON u.memory_id = m.id WHERE m.owner <> :owner ORDER BY m.id
            """,
            owner=owner,
        )
        return memories + sql("SELECT v.* FROM memory_versions v JOIN memory m ON m.id = v.memory_id"
                              " WHERE m.owner <> :owner ORDER BY v.memory_id, v.version", owner=owner)  # fmt: skip

    def act(self, what: str, owner: str, *how: Any) -> None:
        """Do something as an owner, and look at whom it concerned."""
        before, others = self.owner_of(), self.of_others(owner)
        caller = self.callers[owner]
        known = sorted(before)

        def one(which: int) -> str:
            return known[which % len(known)] if known else "none"

        told = _ACTS[what](caller, one, *how)
        assert self.of_others(owner) == others, "another's memories are as they were"
        theirs = {memory_id for memory_id, whose in (before | self.owner_of()).items() if whose != owner}
        named = {word for word in _words(told) if word in theirs}
        # What the caller named himself, and was told that it is not there, he may hear again.
        assert not named, f"{owner} hears of {named}"


def _words(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [word for item in value.values() for word in _words(item)]
    if isinstance(value, list):
        return [word for item in value for word in _words(item)]
    return [value] if isinstance(value, str) else []


def _ok(caller: Caller, method: str, path: str, body: Any = None) -> Any:
    response = caller.call(method, path, body)
    assert response.status_code in (200, 201, 204, 404, 409), response.text
    # What a refusal repeats is what was asked for.
    return response.get_json(silent=True) if response.status_code < 300 else None


def _store(caller: Caller, _: Any, text: str, scope: dict[str, str], near: str) -> Any:
    body = {"memory_type": "semantic", "content": text, "on_near_duplicate": near} | scope
    return _ok(caller, "POST", "/memories", body)


def _batch(caller: Caller, _: Any, texts: list[str], scope: dict[str, str]) -> Any:
    memories = [{"memory_type": "semantic", "content": text} | scope for text in texts]
    return _ok(caller, "POST", "/memories/batch", {"memories": memories, "on_near_duplicate": "merge"})


def _supersede(caller: Caller, one: Callable[[int], str], text: str, which: int) -> Any:
    body = {"memory_type": "semantic", "content": text, "supersedes": [one(which)]}
    return _ok(caller, "POST", "/memories", body)


def _show(caller: Caller, one: Callable[[int], str], which: int) -> Any:
    found = _ok(caller, "GET", f"/memories/{one(which)}"), _ok(caller, "GET", f"/memories/{one(which)}/history")
    assert (found[0] is None) == (found[1] is None)
    return [found[0]]


def _import(caller: Caller, one: Callable[[int], str], which: int, text: str) -> Any:
    document = {"id": one(which), "memory_type": "semantic", "content": text, "status": "merged"}
    document["replaced_by"] = one(which + 1) if one(which + 1) != one(which) else None
    told = _ok(caller, "POST", "/memories/import", {"memories": [document]})
    again = _ok(caller, "POST", "/memories/import", {"memories": [document]})
    assert [item["id"] for item in again["items"]] == [item["id"] for item in told["items"]]
    return told


_ACTS: dict[str, Callable[..., Any]] = {
    "store": _store,
    "batch": _batch,
    "supersede": _supersede,
    "show": _show,
    "patch": lambda c, one, text, which: _ok(c, "PATCH", f"/memories/{one(which)}", {"content": text}),
    "delete": lambda c, one, which: _ok(c, "DELETE", f"/memories/{one(which)}"),
    "search": lambda c, _, text, scope, mode: _ok(
        c, "POST", "/memories/search", {"query": text, "mode": mode, "limit": 50} | scope
    ),
    "list": lambda c, _: _ok(c, "GET", "/memories"),
    "export": lambda c, _: _ok(c, "GET", "/memories/export"),
    "consolidate": lambda c, _, scope: _ok(c, "POST", "/memories/consolidate", {"threshold": 0.9} | scope),
    "forget": lambda c, _, scope: _ok(c, "POST", "/memories/forget", scope or {"all": True}),
    "forget ids": lambda c, one, some: _ok(c, "POST", "/memories/forget", {"ids": [one(which) for which in some]}),
    "import": _import,
    "index": lambda c, _: catch_up(),
}


@pytest.fixture
def world(memory: pytest.MonkeyPatch, caller: Callable[..., Caller]) -> World:
    """Owners with keys; the index is there."""
    catch_up()
    scopes = {"ada": ("submit",), "bob": ("submit",), "root": ("submit", "admin")}
    return World({owner: caller(owner, *scopes[owner]) for owner in OWNERS})


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(acts=st.lists(_act, min_size=5, max_size=30))
def test_no_owner_sees_changes_or_learns_of_anothers_memories(world: World, acts: list[tuple[Any, ...]]) -> None:
    sql("DELETE FROM memory")
    sql("DELETE FROM memory_outbox")
    for what, owner, *how in acts:
        world.act(what, owner, *how)
    for owner, caller in world.callers.items():
        mine = {one for one, whose in world.owner_of().items() if whose == owner}
        exported = caller.get("/memories/export", query_string={"limit": 1000})["items"]
        assert {document["id"] for document in exported} == mine
