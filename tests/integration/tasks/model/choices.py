"""What to try next, as Hypothesis strategies: mostly what a task's way asks for, and anything else often enough."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from hypothesis import strategies as st

from app.tasks.claim import Claim
from app.tasks.retry import Outcome
from tests.integration.tasks.model import acts
from tests.integration.tasks.model.acts import Act
from tests.integration.tasks.model.known import TERMINAL, UNSUCCESSFUL, Model
from tests.support import CANCELLED, FAILED, HANDED_BACK, INFRA, SUCCEEDED

#: So few that most acts meet in the same tasks.
MOST_TASKS = 6

#: First those after which there is more to come.
_OUTCOMES = (
    HANDED_BACK,
    INFRA,
    FAILED,
    SUCCEEDED,
    CANCELLED,
    Outcome(kind="failed", error="No.", retryable=False),
)


def weighed(choices: Mapping[Callable[[], st.SearchStrategy[Any]], int]) -> st.SearchStrategy[Any]:
    """One of several, by weight. `one_of` would count what is inside an inner one as its own."""
    return st.sampled_from([choice for choice, weight in choices.items() for _ in range(weight)]).flatmap(_call)


def _call(choice: Callable[[], st.SearchStrategy[Any]]) -> st.SearchStrategy[Any]:
    return choice()


class Choices:
    """Strategies over what the model knows and what was claimed so far."""

    def __init__(self, model: Model, claims: Sequence[Claim]) -> None:
        self.model = model
        self.claims = claims
        self.current = [c for c in claims if model.holds((c.id, c.attempt))]
        self.stale = [c for c in claims if not model.holds((c.id, c.attempt))]
        #: Of those, the ones whose task runs again.
        self.late = [c for c in self.stale if model.tasks[c.id].status == "running"]

    def one(self) -> st.SearchStrategy[Act]:
        """One act on its own."""
        ids = list(self.model.tasks)
        return weighed(
            {
                lambda: st.sampled_from(ids).flatmap(self._usual): 6,
                lambda: self._anything(ids): 3,
                self._move: 1,
                self._late_word: 6 if self.late else 1 if self.stale else 0,
            }
        )

    def pair(self) -> st.SearchStrategy[tuple[Act, Act]]:
        """Two acts about a task, its parents and its children."""
        return st.sampled_from(list(self.model.tasks)).flatmap(self._pair)

    def submit(self, parents: Iterable[str]) -> st.SearchStrategy[Act]:
        """Another task, below any of `parents` or none."""
        parents = list(parents)
        below = st.lists(st.sampled_from(parents), unique=True, max_size=3) if parents else st.just([])
        delayed = st.sampled_from([False, False, False, True])
        return st.builds(partial(acts.submitting, self.model), below, st.integers(1, 3), delayed, st.booleans())

    def _late_word(self) -> st.SearchStrategy[Act]:
        """Something about an attempt that is no more; first about those whose task runs again."""
        held = [*self.late * 3, *self.stale]
        return weighed({lambda: self._finish(held): 1, lambda: self._words(held): 2})

    def _usual(self, task_id: str, *, time: bool = True) -> st.SearchStrategy[Act]:
        """What a task's way asks for next; without `time`, nothing but verbs."""
        task = self.model.tasks[task_id]
        if task.status == "pending":
            waits = time and not task.due and not task.waits_for
            return st.just(acts.time_passing() if waits else acts.admitting())
        if task.status == "queued":
            return self._claim([task_id])
        if task.status == "running":
            ours = [c for c in self.current if c.id == task_id]
            falls_silent = time and not task.lapsed
            lost = acts.falling_silent(self.model, [task_id]) if falls_silent else acts.taking_back()
            return weighed(
                {
                    lambda: self._finish(ours): 2,
                    lambda: self._finish(self.current): 1,
                    lambda: st.just(acts.finishing(self.model, [(c, SUCCEEDED) for c in self.current])): 1,
                    lambda: self._words(ours): 1,
                    lambda: st.just(lost): 1,
                }
            )
        if task.status in UNSUCCESSFUL:
            return st.just(acts.retrying(self.model, task_id))
        return self._anything(list(self.model.tasks))

    def _pair(self, task_id: str) -> st.SearchStrategy[tuple[Act, Act]]:
        task = self.model.tasks[task_id]
        near = [i for i, other in self.model.tasks.items() if i in task.waits_for or task_id in other.waits_for]
        about = st.sampled_from([task_id, task_id, *near])
        act = weighed(
            {
                lambda: about.flatmap(partial(self._usual, time=False)): 1,
                lambda: self._anything([task_id, *near]): 1,
            }
        )
        return st.tuples(act, act)

    def _anything(self, ids: list[str]) -> st.SearchStrategy[Act]:
        held = [*(c for c in self.current if c.id in ids), *(c for c in self.claims if c.id in ids)]
        one = st.sampled_from(ids)
        return weighed(
            {
                lambda: st.just(acts.admitting()): 1,
                lambda: self._claim(ids): 2,
                lambda: self._finish(held): 3 if held else 0,
                lambda: self._words(held): 1 if held else 0,
                lambda: self.submit(ids): 1 if len(self.model.tasks) < MOST_TASKS else 0,
                lambda: one.map(partial(acts.cancelling, self.model)): 1,
                lambda: one.map(partial(acts.retrying, self.model)): 1,
                lambda: st.sampled_from([acts.taking_back(), acts.expiring(), acts.redispatching()]): 1,
            }
        )

    def _move(self) -> st.SearchStrategy[Act]:
        running = self.model.where(lambda t: t.status == "running")
        dated = self.model.where(lambda t: t.deadline == "ahead" and t.status not in TERMINAL)
        return st.sampled_from(
            [
                acts.time_passing(),
                *(acts.falling_silent(self.model, [i]) for i in running),
                *(acts.falling_due(self.model, i) for i in dated),
            ]
        )

    def _claim(self, ids: list[str]) -> st.SearchStrategy[Act]:
        """Envelopes with what is queued, and now and then with anything else, also several times."""
        queued = self.model.where(lambda t: t.status == "queued")
        carried = st.lists(
            st.sampled_from([*ids * 3, *queued, *self.model.tasks, "no such id"]), min_size=1, max_size=4
        )
        return carried.map(partial(acts.claiming, self.model))

    def _finish(self, held: Sequence[Claim]) -> st.SearchStrategy[Act]:
        pairs = st.tuples(st.sampled_from(held), st.sampled_from(_OUTCOMES))
        several = st.lists(pairs, min_size=1, max_size=3, unique_by=lambda pair: (pair[0].id, pair[0].attempt))
        return several.map(partial(acts.finishing, self.model))

    def _words(self, held: Sequence[Claim]) -> st.SearchStrategy[Act]:
        """What a worker says while it runs something."""
        one = st.sampled_from(held)
        return st.one_of(
            st.builds(partial(acts.reporting, self.model), one, st.none() | st.integers(0, 100), st.integers(1, 2)),
            one.map(partial(acts.recording, self.model)),
            st.builds(partial(acts.beating, self.model), st.lists(one, min_size=1, max_size=3), extend=st.booleans()),
        )
