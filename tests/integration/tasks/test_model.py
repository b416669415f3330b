"""The tasks' whole state machine: any verbs in any order, alone and two at once, against a model in plain Python.

A failure prints the acts that led to it. To run them again, put the `@reproduce_failure(…)` that it prints above
`Tasks`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule
from hypothesis.stateful import run_state_machine_as_test as run

from app import publisher
from app.db import transaction
from app.queues import Queue
from app.settings import settings as clawq_settings
from app.tasks.claim import Claim
from app.tasks.recover import start_due
from tests.integration.tasks.model import acts
from tests.integration.tasks.model.acts import Act, After
from tests.integration.tasks.model.choices import Choices
from tests.integration.tasks.model.known import TERMINAL, WINDOW, Model
from tests.integration.tasks.model.rows import check, expected, forget, look, told
from tests.support import SUCCEEDED, Aside, employ, empty_redis, envelopes, eventually, sql, together


class Tasks(RuleBasedStateMachine):
    """What all hands may do at any time. Time itself stands still, and passes when a rule says so."""

    def __init__(self) -> None:
        super().__init__()
        forget()
        empty_redis()
        self.model = Model()
        #: Every claim ever made; most are stale soon.
        self.claims: list[Claim] = []
        #: Every act so far, with its result.
        self.steps: list[tuple[Act, Any]] = []
        self.last: tuple[Act, Act] | None = None
        #: False from the start of a rule until its outcome was found right.
        self.sound = True

    def choices(self) -> Choices:
        return Choices(self.model, self.claims)

    @initialize(data=st.data())
    def some_tasks(self, data: st.DataObject) -> None:
        for _ in range(data.draw(st.integers(1, 4))):
            self.do(data.draw(self.choices().submit(self.model.tasks)))

    @rule(data=st.data())
    def one(self, data: st.DataObject) -> None:
        self.do(data.draw(self.choices().one()))

    @rule(data=st.data())
    def two_at_once(self, data: st.DataObject) -> None:
        """The second starts while the first has not committed: goes by, or waits for it."""
        pair = data.draw(self.choices().pair())
        if data.draw(st.sampled_from([False, False, False, True]), "keep for last"):
            # These will start at the same moment. Who wins is anybody's guess, so nothing may be drawn after that.
            self.last = pair
        else:
            self.sound = False
            self._one_of_both_orders(pair, _overlapping(*pair))

    def do(self, act: Act) -> None:
        """One act alone."""
        self.sound = False
        before = look() if act.is_late(self.model) else None
        result = _alone(act)
        after = After(look(), alone=True)
        assert before is None or after.rows == before, f"{act} changed something; {self._so_far()}"
        assert act.explain(self.model, result, after), f"{act} returned {result}; {self._so_far()}"
        self._accept(self.model, [(act, result)], after)

    def _one_of_both_orders(self, pair: tuple[Act, Act], results: list[Any]) -> None:
        after = After(look(), alone=False)
        steps = list(zip(pair, results, strict=True))
        fitting = [model for order in (steps, steps[::-1]) if (model := self._explained(order, after))]
        assert fitting, f"no order explains {steps}; {self._so_far()}"
        self._accept(fitting[0], steps, after)

    def _explained(self, steps: Iterable[tuple[Act, Any]], after: After) -> Model | None:
        """The model after these steps, if that is how it stands."""
        model = self.model.copy()
        if all(act.explain(model, result, after) for act, result in steps):
            return model if told(after.rows, model) == expected(model) else None
        return None

    def _accept(self, model: Model, steps: Sequence[tuple[Act, Any]], after: After) -> None:
        assert told(after.rows, model) == expected(model), f"not so after {steps}; {self._so_far()}"
        self.model = model
        self.steps += steps
        won = [c for _, result in steps if isinstance(result, list) for c in result if isinstance(c, Claim)]
        self.claims += sorted(won, key=lambda c: list(model.tasks).index(c.id))
        for task_id, task in model.tasks.items():
            self._hold_up(task_id, after)
            task.delay_s = None
        check(after.rows)
        self.sound = True

    def _hold_up(self, task_id: str, after: After) -> None:
        """Time does not pass for a retry that has begun to wait."""
        task = self.model.tasks[task_id]
        if task.delay_s and task.status == "pending":
            at_least, at_most = task.delay_s
            assert at_least - 0.001 <= after.rows[task_id].delay_s <= at_most + 0.001
            if not task.due:
                sql("UPDATE tasks SET available_at = now() + interval '1 hour' WHERE id = :id", id=task_id)

    def _so_far(self) -> str:
        states = {self.model.name(i): f"{t.status}#{t.attempt}" for i, t in self.model.tasks.items()}
        return f"the model: {states}; before: {self.steps}"

    def teardown(self) -> None:
        """However it stands, all envelopes lost and all workers dead: clock, gateway and one worker bring it home."""
        if not self.sound:
            return
        if self.last:
            self._one_of_both_orders(self.last, together(*(partial(_alone, act) for act in self.last)))
        empty_redis()
        self.do(acts.falling_silent(self.model, self.model.where(lambda t: t.status == "running")))
        for _ in range(2 * len(self.model.tasks) + 4):
            for act in (acts.time_passing(), acts.expiring(), acts.taking_back(), acts.redispatching()):
                self.do(act)
            with transaction() as db:
                start_due(db)
            self._work()
            if not self._open():
                break
        assert not self._open(), f"wedged: {self._open()}; {self._so_far()}"

    def _open(self) -> list[str]:
        return [self.model.name(i) for i in self.model.where(lambda t: t.status not in TERMINAL)]

    def _work(self) -> None:
        """Do what the envelopes say, as gateway and worker do it."""
        if envelopes("gateway"):
            publisher.client().delete("gateway")
            publisher.answer(Queue.GATEWAY)
            self.do(acts.admitting())
        carried = [args[0] for _, args in envelopes("execution")]
        publisher.client().delete("execution")
        for ids in carried:
            before = len(self.claims)
            self.do(acts.claiming(self.model, ids))
            if won := self.claims[before:]:
                self.do(acts.finishing(self.model, [(c, SUCCEEDED) for c in won]))


def _alone(act: Act) -> Any:
    with transaction() as db:
        return act.run(db)


def _overlapping(first: Act, second: Act) -> list[Any]:
    with transaction() as db:
        result = first.run(db)
        aside = Aside(second.run)
        eventually(lambda: aside.is_over() or aside.is_blocked())
    return [result, aside.join()]


@pytest.mark.timeout(600)  # a failure is made small before it is shown
def test_every_history_is_one_of_the_model_s(clawq: pytest.MonkeyPatch) -> None:
    clawq.setenv("CLAWQ_WINDOW", str(WINDOW))
    clawq.setenv("CLAWQ_LEASE_S", "3600")
    clawq_settings.cache_clear()
    employ()
    checks = list(HealthCheck)
    run(Tasks, settings=settings(
        max_examples=50, stateful_step_count=40, deadline=None, print_blob=True, suppress_health_check=checks,
    ))  # fmt: skip
