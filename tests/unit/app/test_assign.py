"""Which agent each candidate gets, and when none does; and what goes into one envelope."""

from __future__ import annotations

from dataclasses import dataclass

from app.queues import Queue
from app.tasks.admit import Desk, assign
from app.tasks.dispatch import INLINE_BATCH, INLINE_BYTES, Queued, envelopes

PLENTY = dict.fromkeys(Queue, 1000)


@dataclass(frozen=True)
class Candidate:
    id: str
    queue: str = "execution"
    task_type: str = "echo"
    assigned_to: str | None = None


def desk(name: str, *, role: str = "execution", types: set[str] | None = None, room: float = 99, load: int = 0) -> Desk:
    return Desk(name, role, None if types is None else frozenset(types), room, load)


def candidates(number: int, **values: str) -> list[Candidate]:
    return [Candidate(f"t{n}", **values) for n in range(number)]


def test_tasks_go_to_the_least_loaded_agent_in_turn() -> None:
    picks = assign(candidates(4), PLENTY, [desk("a", load=2), desk("b")])
    assert list(picks.values()) == ["b", "b", "a", "b"]


def test_an_agent_takes_no_more_than_its_limit() -> None:
    assert list(assign(candidates(5), PLENTY, [desk("a", room=2)])) == ["t0", "t1"]


def test_an_agent_over_its_limit_takes_nothing() -> None:
    assert assign(candidates(1), PLENTY, [desk("a", room=-3)]) == {}


def test_a_full_queue_takes_nothing_while_another_still_does() -> None:
    tasks = [Candidate("e"), Candidate("m", queue="memory"), Candidate("e2")]
    room = {**PLENTY, "execution": 1}
    picks = assign(tasks, room, [desk("x"), desk("y", role="memory")])
    assert picks == {"e": "x", "m": "y"}


def test_the_room_given_is_not_changed() -> None:
    room = {**PLENTY, "execution": 1}
    assign(candidates(2), room, [desk("x")])
    assert room["execution"] == 1


def test_a_pinned_task_waits_for_its_agent_though_others_are_idle() -> None:
    task = Candidate("t", assigned_to="busy")
    assert assign([task], PLENTY, [desk("busy", room=0), desk("idle")]) == {}
    assert assign([task], PLENTY, [desk("idle")]) == {}


def test_a_pinned_task_goes_to_its_agent_of_any_type() -> None:
    picks = assign([Candidate("t", assigned_to="mine")], PLENTY, [desk("idle"), desk("mine", role="critic", load=9)])
    assert picks == {"t": "mine"}


def test_an_agent_takes_only_the_types_of_its_policy() -> None:
    desks = [desk("python", types={"python"}), desk("echo", types={"echo"}, load=50), desk("none", types=set())]
    assert assign(candidates(1), PLENTY, desks) == {"t0": "echo"}
    assert assign(candidates(1, task_type="shell"), PLENTY, desks) == {}


def test_an_agent_of_another_role_is_not_asked() -> None:
    assert assign(candidates(1), PLENTY, [desk("m", role="memory")]) == {}


def test_what_nobody_takes_does_not_hold_up_what_follows() -> None:
    tasks = [Candidate("p", task_type="python"), Candidate("e")]
    assert assign(tasks, PLENTY, [desk("a", types={"echo"})]) == {"e": "a"}


def test_inline_tasks_share_envelopes_and_sandboxed_ones_have_their_own() -> None:
    tasks = [Queued(f"e{n}", "execution", "echo", 2) for n in range(INLINE_BATCH + 1)]
    tasks += [
        Queued("p1", "execution", "python", 2),
        Queued("p2", "execution", "shell", 2),
        Queued("m", "memory", "echo", 2),
    ]
    sent = list(envelopes(tasks))
    assert sorted(i for _, ids in sent for i in ids) == sorted(task.id for task in tasks)
    assert (Queue.EXECUTION, ["p1"]) in sent
    assert (Queue.EXECUTION, ["p2"]) in sent
    assert (Queue.MEMORY, ["m"]) in sent
    assert sorted(len(ids) for queue, ids in sent if queue == Queue.EXECUTION) == [1, 1, 1, INLINE_BATCH]


def test_heavy_payloads_close_an_envelope_early() -> None:
    tasks = [Queued(f"e{n}", "execution", "echo", INLINE_BYTES // 2) for n in range(5)]
    assert [len(ids) for _, ids in envelopes(tasks)] == [2, 2, 1]


def test_what_only_a_newer_version_runs_is_passed_over() -> None:
    tasks = [Queued("a", "execution", "haskell", 2), Queued("b", "dreams", "echo", 2), Queued("c", "memory", "echo", 2)]
    assert list(envelopes(tasks)) == [(Queue.MEMORY, ["c"])]


def test_nothing_makes_no_envelope() -> None:
    assert list(envelopes([])) == []
