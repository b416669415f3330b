"""Any workflow, whatever of it fails and whatever envelopes are lost, comes to the end that its document says."""

from __future__ import annotations

import random
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app import publisher
from app.workflows.asked import NewStep
from tests.fleet import Envelope, a_step, flow, post_flow, retry_now, states, tasks_of, work
from tests.integration.workflows.fate import met
from tests.support import sql

_EXAMPLES = 60


@st.composite
def workflows(draw: st.DrawFn) -> list[NewStep]:
    """Up to twelve tasks that succeed, fail, fail once or are skipped, with any policy."""
    steps: list[NewStep] = []
    for n in range(draw(st.integers(1, 12))):
        near = [step.key for step in steps[-4:]]
        parents = draw(st.lists(st.sampled_from(near), unique=True, max_size=3)) if near else []
        fate = draw(st.sampled_from(("ok", "ok", "ok", "ok", "fail", "once", "no")))
        steps.append(_step(n, parents, fate, draw(st.sampled_from(("skip", "skip", "continue", "cancel")))))
    return steps


def _step(n: int, parents: list[str], fate: str, on_failure: str) -> NewStep:
    values: dict[str, Any] = {"task_type": "fate", "payload": {"name": f"t{n}"}, "on_failure": on_failure}
    if fate == "fail":
        values["payload"]["fail"] = True
    elif fate == "once":
        values |= {"max_attempts": 2, "retry": {"delay_s": 0}}
        values["payload"]["fail_first"] = 1
    elif fate == "no":
        values["when"] = False
    return a_step(f"t{n}", *parents, **values)


def expected(steps: list[NewStep]) -> dict[str, str]:
    """What each task comes to if nothing cancels; a reference executor in a few lines."""
    found: dict[str, str] = {}
    tolerant = {step.key: step.on_failure == "continue" for step in steps}
    for step in steps:
        stopped = any(found[parent] != "succeeded" and not tolerant[parent] for parent in step.depends_on)
        if stopped or step.when is False:
            found[step.key] = "skipped"
        else:
            found[step.key] = "failed" if step.payload.get("fail") else "succeeded"
    return found


def _aborts(steps: list[NewStep], found: dict[str, str]) -> bool:
    return any(step.on_failure == "cancel" and found[step.key] == "failed" for step in steps)


@settings(max_examples=_EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(workflows(), st.integers(0, 2**16), st.sampled_from((0.0, 0.0, 0.15)), st.sampled_from((1, 2)))
def test_any_workflow_comes_to_its_end(steps: list[NewStep], seed: int, loss: float, slots: int) -> None:
    chance = random.Random(seed)
    _forget()
    workflow_id = post_flow(*steps)

    def keep(envelope: Envelope) -> bool:
        return chance.random() >= loss

    for _ in range(60):
        work(keep=keep, slots=slots)
        if flow(workflow_id).completed_at:
            break
        retry_now(workflow_id)
    work(slots=slots)
    found, said = states(workflow_id), expected(steps)
    if _aborts(steps, said):
        assert flow(workflow_id).status == "failed"
        assert all(found[key] in (said[key], "cancelled", "skipped") for key in found)
    else:
        assert found == said
        bad = any(said[step.key] == "failed" and step.on_failure != "continue" for step in steps)
        assert flow(workflow_id).status == ("failed" if bad else "succeeded")
    _check_rows(workflow_id, steps)


def _check_rows(workflow_id: str, steps: list[NewStep]) -> None:
    rows = tasks_of(workflow_id)
    assert (
        sql(
            "SELECT * FROM edges e JOIN tasks t ON t.id = e.child_id WHERE t.status IN ('pending', 'queued', 'running')"
        )
        == []
    )
    for step in steps:
        row = rows[step.key]
        tries = 2 if step.payload.get("fail_first") else 1
        assert row.attempt in (0, tries) or row.status == "cancelled", (step.key, row.attempt)
        if row.attempt:
            ends = [rows[parent].completed_at for parent in step.depends_on]
            assert all(end <= row.started_at for end in ends), "started before a parent had ended"
        ended = sql("SELECT count(*) AS n FROM events WHERE task_id = :id AND kind = :kind", id=row.id, kind=row.status)
        assert ended[0].n == 1


def _forget() -> None:
    met.clear()
    publisher.client().flushdb()
