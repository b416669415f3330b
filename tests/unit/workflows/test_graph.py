"""The graph of a workflow: what is wrong with it, its order, who stands above whom, and its longest chain."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import Problem
from app.workflows import graph
from app.workflows.asked import NewStep

MANY = 10_000


def steps(parents: Mapping[str, Sequence[str]]) -> list[NewStep]:
    return [a_step(key, *above) for key, above in parents.items()]


def a_step(key: str, *depends_on: str) -> NewStep:
    return NewStep(key=key, task_type="echo", payload={}, depends_on=depends_on)


def found(parents: Mapping[str, Sequence[str]]) -> list[tuple[tuple[str | int, ...], str]]:
    return [(p.loc[1:], p.msg) for p in graph.problems_of(steps(parents))]


CHAIN = {f"n{n}": [f"n{n - 1}"] if n else [] for n in range(MANY)}
FAN = {"root": []} | {f"n{n}": ["root"] for n in range(MANY - 2)} | {"join": [f"n{n}" for n in range(MANY - 2)]}


def test_a_workflow_in_order_has_no_problems() -> None:
    assert found({"c": ["a", "b"], "a": [], "b": ["a"], "A-1_z": []}) == []


def test_a_workflow_has_one_to_ten_thousand_tasks() -> None:
    assert [p.loc for p in graph.problems_of([])] == [("tasks",)]
    assert graph.problems_of(steps({f"n{n}": [] for n in range(MANY)})) == []
    (problem,) = graph.problems_of(steps({f"n{n}": [] for n in range(MANY + 1)}))
    assert (problem.loc, "10000" in problem.msg) == (("tasks",), True)


@pytest.mark.parametrize("key", ["", "a b", "a.b", "a[0]", "é", "a\n", "x" * 201])
def test_a_key_is_letters_digits_and_dashes(key: str) -> None:
    (problem,) = graph.problems_of([a_step("fine"), a_step(key)])
    assert problem.loc == ("tasks", 1, "key")


def test_a_key_that_occurs_again_names_the_task_that_has_it() -> None:
    (problem,) = graph.problems_of([a_step("a"), a_step("b"), a_step("a")])
    assert problem == Problem(("tasks", 2, "key"), "task 0 has this key too")


def test_each_entry_of_depends_on_is_looked_at() -> None:
    assert found({"a": [], "b": ["a", "x", "a", "b"], "c": ["b"]}) == [
        ((1, "depends_on", 1), "no task has the key x"),
        ((1, "depends_on", 2), "a is there twice"),
        ((1, "depends_on", 3), "a task cannot wait for itself"),
    ]


def test_a_cycle_is_named_from_its_first_task_on_and_placed_where_it_begins() -> None:
    assert found({"z": [], "a": ["z", "b"], "b": ["c"], "c": ["a"], "d": ["c"]}) == [
        ((1, "depends_on", 1), "cycle: a → b → c → a (each waits for the next)")
    ]


def test_independent_cycles_are_named_once_each() -> None:
    told = found({"a": ["b"], "b": ["a"], "c": ["d", "a"], "d": ["e"], "e": ["c", "d"], "f": ["e"]})
    assert [msg.split(" (")[0] for _, msg in told] == ["cycle: a → b → a", "cycle: c → d → e → c"]


def test_a_cycle_within_a_cycle_is_no_way_back() -> None:
    assert [msg.split(" (")[0] for _, msg in found({"a": ["b"], "b": ["c"], "c": ["b", "a"]})] == [
        "cycle: a → b → c → a"
    ]


def test_a_long_cycle_is_told_by_its_ends() -> None:
    ((_, msg),) = found(CHAIN | {"n0": [f"n{MANY - 1}"]})
    assert msg.startswith("cycle: n0 → n9999 → n9998 → ")
    assert "9981 more" in msg
    assert msg.endswith("n2 → n1 → n0 (each waits for the next)")


def test_no_more_than_a_hundred_problems_are_told() -> None:
    assert len(found({f"n{n}": ["x", "y"] for n in range(500)})) == 100


def test_so_many_wait_for_one_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    assert graph.problems_of(steps(FAN)) == []
    monkeypatch.setattr(graph, "MAX_CHILDREN", 2)
    assert found({"a": [], "b": ["a"], "c": ["a"]}) == []
    assert found({"z": [], "a": [], "b": ["a"], "c": ["a"], "d": ["a"]}) == [
        ((1, "key"), "at most 2 tasks can wait for one")
    ]


def test_all_edges_together_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graph, "MAX_EDGES", 2)
    assert found({"a": [], "b": ["a"], "c": ["a"]}) == []
    ((_, msg),) = found({"a": [], "b": ["a"], "c": ["a", "b"]})
    assert "at most 2 entries" in msg


def test_order_changes_nothing_that_is_in_order_and_moves_only_what_is_needed() -> None:
    assert keys(graph.order(steps({"a": [], "b": ["a"], "c": []}))) == ["a", "b", "c"]
    assert keys(graph.order(steps({"d": ["c", "b"], "a": [], "b": ["a"], "c": []}))) == ["c", "a", "b", "d"]


def test_who_refers_to_what_need_not_have_ended_is_told() -> None:
    asked = {"d": {"a", "b", "c"}, "c": {"a", "d", "c"}, "b": {"a"}}
    parents: dict[str, list[str]] = {"a": [], "b": [], "c": ["a"], "d": ["c"]}
    assert graph.strangers(steps(parents), asked) == {"b": ["a"], "c": ["c", "d"], "d": ["b"]}


@pytest.mark.parametrize("parents", [CHAIN, FAN], ids=["chain", "fan"])
def test_ten_thousand_tasks_are_nothing_special(parents: dict[str, list[str]]) -> None:
    backwards = steps(dict(reversed(parents.items())))
    assert graph.problems_of(backwards) == []
    assert sorted(keys(graph.order(backwards))) == sorted(parents)
    first, last = next(iter(parents)), list(parents)[-1]
    # Everybody refers to the root, the farthest there is, and the root to the last.
    asked = {key: {first} for key in parents if key != first} | {first: {last}}
    assert graph.strangers(backwards, asked) == {first: [last]}
    path = graph.critical_path(dict.fromkeys(parents, 1.0), parents)
    assert (path[0], path[-1], len(path)) == (first, last, MANY if parents is CHAIN else 3)


def test_all_of_a_chain_may_refer_to_all_above() -> None:
    asked = {f"n{n}": {f"n{n // 2}", f"n{n // 3}"} for n in range(2, MANY)}
    assert graph.strangers(steps(CHAIN), asked) == {}


def test_the_critical_path_takes_longest_then_has_most_tasks_then_comes_first() -> None:
    diamond = {"a": [], "b": ["a"], "c": ["a"], "d": ["b", "c"]}
    assert graph.critical_path({"a": 1, "b": 1, "c": 2, "d": 1}, diamond) == ["a", "c", "d"]
    assert graph.critical_path(dict.fromkeys(diamond, 0), diamond) == ["a", "b", "d"]
    assert graph.critical_path(dict.fromkeys("xyz", 0), {"z": ["y"]}) == ["y", "z"]
    assert graph.critical_path({"a": 1, "x": 1}, {"a": ["gone"]}) == ["a"]
    assert graph.critical_path({}, {}) == []


def keys(of: Sequence[NewStep]) -> list[str]:
    return [step.key for step in of]


@st.composite
def graphs(draw: st.DrawFn, acyclic: bool = False) -> dict[str, list[str]]:
    """Up to seven tasks with any edges, in any order."""
    size = draw(st.integers(1, 7))
    names = [chr(97 + n) for n in range(size)]
    above = {
        name: draw(st.lists(st.sampled_from(names[:n] if acyclic else names), unique=True)) if n or not acyclic else []
        for n, name in enumerate(names)
    }
    return {name: above[name] for name in draw(st.permutations(names))}


def ancestors(parents: Mapping[str, Sequence[str]]) -> dict[str, set[str]]:
    """Whom each can reach upwards, as often as it takes until nothing is added."""
    above = {key: set(entries) for key, entries in parents.items()}
    for _ in above:
        for key in above:
            above[key] |= {far for near in above[key] for far in above[near]}
    return above


@given(graphs())
def test_a_cycle_is_told_for_each_knot_and_is_one(parents: dict[str, list[str]]) -> None:
    # Self-dependencies are told apart from cycles.
    plain = {key: [p for p in entries if p != key] for key, entries in parents.items()}
    above = ancestors(plain)
    knots = {frozenset(other for other in above[key] if key in above[other]) for key in above if key in above[key]}
    told = [msg.removeprefix("cycle: ").split(" (")[0].split(" → ") for _, msg in found(plain)]
    assert len(told) == len(knots)
    assert {knot for cycle in told for knot in knots if set(cycle) <= knot} == knots
    for cycle in told:
        assert cycle[0] == cycle[-1]
        assert len(set(cycle)) == len(cycle) - 1
        assert all(after in plain[before] for before, after in pairwise(cycle))
    assert len(found(parents)) == len(told) + sum(key in entries for key, entries in parents.items())


@given(graphs(acyclic=True))
def test_parents_come_first_and_all_come_once(parents: dict[str, list[str]]) -> None:
    assert graph.problems_of(steps(parents)) == []
    ordered = keys(graph.order(steps(parents)))
    assert sorted(ordered) == sorted(parents)
    assert all(ordered.index(p) < ordered.index(key) for key in parents for p in parents[key])
    again = keys(graph.order([a_step(key, *parents[key]) for key in ordered]))
    assert again == ordered


@given(graphs(acyclic=True), st.data())
def test_strangers_are_those_that_are_no_ancestors(parents: dict[str, list[str]], data: st.DataObject) -> None:
    asked: dict[str, set[str]] = {key: data.draw(st.sets(st.sampled_from(sorted(parents)))) for key in parents}
    above = ancestors(parents)
    wanted = {key: sorted(asked[key] - above[key]) for key in parents if asked[key] - above[key]}
    assert graph.strangers(steps(parents), asked) == wanted


@given(graphs(acyclic=True), st.randoms(use_true_random=False))
def test_no_chain_takes_longer_than_the_critical_path(parents: dict[str, list[str]], chance: random.Random) -> None:
    durations = {key: float(chance.randrange(3)) for key in parents}
    path = graph.critical_path(durations, parents)
    assert all(before in parents[after] for before, after in pairwise(path))

    def weight(chain: Sequence[Any]) -> tuple[float, int]:
        return sum(durations[key] for key in chain), len(chain)

    assert weight(path) == max(weight(chain) for chain in chains(parents))


def chains(parents: Mapping[str, Sequence[str]]) -> list[list[str]]:
    """Every chain there is, from any task downwards."""
    found_: list[list[str]] = [[key] for key in parents]
    for chain in found_:
        found_ += [[*chain, key] for key, entries in parents.items() if chain[-1] in entries]
    return found_


def test_keys_that_do_not_exist_are_strangers() -> None:
    assert graph.strangers([NewStep(key="a", task_type="echo", payload={})], {"a": {"x", "y"}}) == {"a": ["x", "y"]}
