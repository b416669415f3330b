"""The planner against an executor that only looks at the graph."""

from __future__ import annotations

import random
from collections import defaultdict

from hypothesis import given
from hypothesis import strategies as st

from app.workflows.plan import LONGEST, MOST_RUNS, Chain, Chord, Node, Plan, plan

#: Child → parents. Parents are smaller numbers.
Graph = dict[int, set[int]]


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    """Any DAG, with many chains, forks and joins in it."""
    size = draw(st.integers(1, 30))
    fan_in = draw(st.integers(1, 4))
    return {
        n: set(draw(st.lists(st.integers(max(0, n - draw(st.integers(1, 8))), n - 1), max_size=fan_in))) if n else set()
        for n in range(size)
    }


class Execution:
    """Runs a graph in any order that its plans allow, and checks that nothing starts early, late or twice."""

    def __init__(self, graph: Graph, seed: int, *, shares: bool) -> None:
        self.graph = graph
        self.children: dict[int, set[int]] = defaultdict(set)
        for child, parents in graph.items():
            for parent in parents:
                self.children[parent].add(child)
        self.random = random.Random(seed)
        self.shares = shares
        self.started: set[int] = set()
        self.ended: set[int] = set()
        self.carried: set[int] = set()
        #: What runs: a task, those of its chain that follow, and the chord that it is in.
        self.running: list[tuple[int, list[int], int | None]] = []
        self.counts: dict[int, int] = {}
        self.plans: list[Plan] = []

    def run(self) -> None:
        self._start([n for n, parents in self.graph.items() if not parents])
        while self.running:
            self._end(*self.running.pop(self.random.randrange(len(self.running))))
        assert self.ended == set(self.graph)

    def _start(self, ready: list[int]) -> None:
        made = plan([str(n) for n in ready], self._nodes())
        self.plans.append(made)
        self._check(made, ready)
        self.carried |= {int(key) for key in made.followers}
        for chord in made.chords:
            self.counts[int(chord.body)] = len(chord.header)
        for run in (chain.ids for chain in made.chains):
            self._begin([int(key) for key in run], None)
        for chord in made.chords:
            for run in chord.header:
                self._begin([int(key) for key in run], int(chord.body))
        for n in ready:
            if str(n) not in made.starting:
                self._begin([n], None)

    def _check(self, made: Plan, ready: list[int]) -> None:
        heads = [run[0] for run in made.runs]
        assert len(set(heads)) == len(heads)
        assert set(heads) <= {str(n) for n in ready}
        assert len(set(made.followers)) == len(made.followers)
        assert all(2 <= len(chain.ids) <= LONGEST for chain in made.chains)
        assert all(len(chord.header) >= 2 for chord in made.chords)

    def _begin(self, run: list[int], body: int | None) -> None:
        first, *rest = run
        assert first not in self.started, "twice"
        assert self.graph[first] <= self.ended, "early"
        self.started.add(first)
        self.running.append((first, rest, body))

    def _end(self, task: int, rest: list[int], body: int | None) -> None:
        self.ended.add(task)
        released = [n for n in sorted(self.children[task]) if self.graph[n] <= self.ended]
        # The canvas brings what it carries at the very moment when the last parent has ended: no barrier.
        brought = []
        if rest:
            brought = [rest[0]]
            self._begin(rest, body)
        elif body is not None:
            self.counts[body] -= 1
            if self.counts[body] == 0:
                brought = [body]
                self._begin([body], None)
        assert [n for n in released if n in self.carried] == brought, "late"
        if left := [n for n in released if n not in self.carried]:
            self._start(left)

    def _nodes(self) -> dict[str, Node]:
        nodes = {}
        for n, parents in self.graph.items():
            children = self.children[n]
            only = str(next(iter(children))) if len(children) == 1 else None
            nodes[str(n)] = Node(str(n), "w", only, len(parents - self.ended), self.shares)
        return nodes


@given(graphs(), st.integers(0, 1000), st.booleans())
def test_every_task_starts_once_and_just_when_its_parents_have_ended(graph: Graph, seed: int, shares: bool) -> None:
    Execution(graph, seed, shares=shares).run()


def _plans(graph: Graph, *, shares: bool = False) -> list[Plan]:
    execution = Execution(graph, 0, shares=shares)
    execution.run()
    return execution.plans


def test_a_linear_run_is_one_chain() -> None:
    first, *rest = _plans({0: set(), 1: {0}, 2: {1}})
    assert first == Plan(chains=[Chain(["0", "1", "2"])])
    assert rest == []


def test_a_long_run_goes_in_chains_of_bounded_length() -> None:
    plans = _plans({n: {n - 1} if n else set() for n in range(2 * LONGEST + 1)})
    assert [len(chain.ids) for made in plans for chain in made.chains] == [LONGEST, LONGEST]


def test_a_fork_that_joins_is_a_chord_of_runs() -> None:
    plans = _plans({0: set(), 1: {0}, 2: {0}, 3: {2}, 4: {1, 3}})
    assert plans[1:] == [Plan(chords=[Chord([["1"], ["2", "3"]], "4")])]


def test_an_n_shape_goes_out_alone() -> None:
    # 0 → 2, 0 → 3, 1 → 3: neither 2 nor 3 is the only child of 0.
    plans = _plans({0: set(), 1: set(), 2: {0}, 3: {0, 1}})
    assert [made.runs for made in plans] == [[]] * len(plans)


def test_a_join_that_waits_for_one_with_other_children_is_not_a_chords() -> None:
    # 3 waits for 1, 2 and 4, and 4 has 5 below it too.
    plans = _plans({0: set(), 1: set(), 2: set(), 4: {0}, 3: {1, 2, 4}, 5: {4}})
    assert plans[0] == Plan(chains=[Chain(["0", "4"])])


def test_many_runs_that_could_share_envelopes_are_not_chained() -> None:
    wide = {n: set() for n in range(MOST_RUNS + 1)} | {100 + n: {n} for n in range(MOST_RUNS + 1)}
    assert _plans(wide, shares=True)[0] == Plan()
    assert len(_plans(wide, shares=False)[0].chains) == MOST_RUNS + 1
