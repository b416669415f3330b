"""Plan: which chains and chords carry on from tasks that are about to start. Pure.

A run of tasks of which each has one child, and each child one parent left, becomes a chain. Runs that start together
and all meet in one task become the header of a chord whose body is that task. Everything else goes out alone and meets
through `deps_left`. So no task waits for one that the graph does not have it wait for.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

#: Tasks in one chain: each envelope of it carries the ids of those to come.
LONGEST = 20
#: Runs of tasks that could share envelopes and are chained all the same. More of them are done sooner side by side, a
#: few envelopes a step, than each in envelopes of its own.
MOST_RUNS = 16


@dataclass(frozen=True)
class Node:
    """A task that starts, or may follow one that does."""

    id: str
    workflow_id: str
    #: Its only child, if that is of the same workflow.
    next: str | None
    #: Parents that have not ended. 0: it starts now.
    open: int
    #: Whether it shares envelopes with others.
    shares: bool


@dataclass(frozen=True)
class Chain:
    """Tasks to run one after another."""

    ids: Sequence[str]


@dataclass(frozen=True)
class Chord:
    """Runs side by side, and the task where they meet."""

    header: Sequence[Sequence[str]]
    body: str


@dataclass(frozen=True)
class Plan:
    """What carries on. Tasks that start and are in none of these go out alone."""

    chains: list[Chain] = field(default_factory=list)
    chords: list[Chord] = field(default_factory=list)

    @property
    def runs(self) -> list[Sequence[str]]:
        """All runs of tasks, each from one that starts."""
        return [chain.ids for chain in self.chains] + [run for chord in self.chords for run in chord.header]

    @property
    def starting(self) -> set[str]:
        """Those in it that start at once."""
        return {run[0] for run in self.runs}

    @property
    def followers(self) -> list[str]:
        """Those that a canvas brings."""
        return [task_id for run in self.runs for task_id in run[1:]] + [chord.body for chord in self.chords]


def plan(starting: Sequence[str], nodes: Mapping[str, Node]) -> Plan:
    """Plan what goes on from tasks that start now.

    Args:
        starting: their ids.
        nodes: by id: they, and what can be reached through `next` from them as far as LONGEST.
    """
    runs = [_run(task_id, nodes) for task_id in starting]
    crowd = Counter(nodes[run[0]].workflow_id for run in runs if len(run) > 1 and nodes[run[0]].shares)
    runs = [run[:1] if nodes[run[0]].shares and crowd[nodes[run[0]].workflow_id] > MOST_RUNS else run for run in runs]
    meeting: dict[str | None, list[list[str]]] = defaultdict(list)
    for run in runs:
        meeting[_join(run, nodes)].append(run)
    made = Plan()
    for join, group in meeting.items():
        if join is not None and len(group) == nodes[join].open:
            made.chords.append(Chord(group, join))
            continue
        made.chains.extend(Chain(run) for run in group if len(run) > 1)
    return made


def _run(task_id: str, nodes: Mapping[str, Node]) -> list[str]:
    """The task and those that follow it one by one."""
    run = [task_id]
    while len(run) < LONGEST and (follower := _follower(run[-1], nodes)) and follower.open == 1:
        run.append(follower.id)
    return run


def _join(run: Sequence[str], nodes: Mapping[str, Node]) -> str | None:
    """The task below a run that waits for others too."""
    follower = _follower(run[-1], nodes)
    return follower.id if follower and follower.open > 1 else None


def _follower(task_id: str, nodes: Mapping[str, Node]) -> Node | None:
    follower = nodes[task_id].next
    return nodes.get(follower) if follower else None
